"""An output that would write into its source is refused, whatever it's called."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import OutputError
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.apart import refuse_common_place


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source directory with a symbolic link to it, one to its parent, and a run's checkpoint
    directory.
    """
    (tmp_path / "run" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "out" / "a0001-g0001").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(output: str, source: str, files: str) -> None:
    refuse_common_place(open_location(output), open_location(source), open_location(files))


@pytest.mark.parametrize(
    "output",
    [
        "run",
        "run/",
        "run//",
        "./run",
        "sub/../run",
        "link",
        "link/",
        "up/run",
        "up/link/.",
        "run/sub/..",
        "{}/run",
        "file://{}/run/",
    ],
)
@pytest.mark.parametrize("source", ["run", "link/m-5", "up/run/m-5.meta"])
def test_output_that_is_the_source_is_refused(run: Path, output: str, source: str) -> None:
    with pytest.raises(OutputError, match="is the directory of the source"):
        refuse(output.format(run), source, "run")


@pytest.mark.parametrize(
    "output", ["run/out", "run/sub/deep/er", "link/out", "up/run/out", "run/out/"]
)
@pytest.mark.parametrize("source", ["run", "link", "up/run/"])
def test_output_inside_the_source_is_refused(run: Path, output: str, source: str) -> None:
    with pytest.raises(OutputError, match="lies inside the source"):
        refuse(output, source, "run")


@pytest.mark.parametrize(
    ("output", "source", "files"),
    [
        ("out2", "run", "run"),
        ("run2", "run", "run"),
        ("run/out", "run/m-5", "run"),  # beside a prefix
        (".", "run", "run"),  # above it
        ("out3", "out/a0001-g0001/m-5", "out/a0001-g0001"),
        ("gs://b/runs", "gs://b/run", "gs://b/run"),
        ("gs://b/run/out", "s3://b/run", "s3://b/run"),
        ("memory://run", "run", "run"),
    ],
)
def test_output_elsewhere_passes(run: Path, output: str, source: str, files: str) -> None:
    refuse(output, source, files)


def test_place_in_a_store_is_none_on_the_disk_that_is_called_the_same(run: Path) -> None:
    refuse(f"memory://{run}/run/out", f"{run}/run", f"{run}/run")
    refuse(f"{run}/run/out", f"memory://{run}/run", f"memory://{run}/run")


@pytest.mark.parametrize(
    ("output", "source"),
    [
        ("memory://run", "memory:///run/"),
        ("memory://b//run/./", "memory://b/run"),
        ("s3a://b/run/", "s3://b/run"),
        ("gcs://b/run", "gs://b//run"),
        ("s3://b/run/more", "s3://b/run/"),
        ("memory://b/run/out", "memory://b/./run"),
    ],
)
def test_output_in_a_store_is_told_by_its_place_too(run: Path, output: str, source: str) -> None:
    with pytest.raises(OutputError, match=r"the directory of the source|inside the source"):
        refuse(output, source, source)


def test_source_that_is_the_outputs_own_checkpoint_is_refused(run: Path) -> None:
    with pytest.raises(OutputError, match="one of the output's own checkpoints"):
        refuse("out", "out/a0001-g0001/m-5", "out/a0001-g0001")


@pytest.mark.parametrize(
    ("output", "source", "files", "message", "remedy"),
    [
        (
            "{}/run",
            "{}/run/m-5",
            "{}/run",
            "the output {}/run is the directory of the source, whose checkpoint file a run would overwrite",
            "Use an --output of its own, beside the source",
        ),
        (
            "{}/run/out",
            "{}/run",
            "{}/run",
            "the output {}/run/out lies inside the source {}/run",
            "Use an --output of its own, beside the source",
        ),
        (
            "{}/out",
            "{}/out/a0001-g0001/m-5",
            "{}/out/a0001-g0001",
            "the source {}/out/a0001-g0001/m-5 is one of the output's own checkpoints",
            "Run the command that this output began with to go on, or use another --output to begin anew from there",
        ),
    ],
)
def test_refusal_names_both_places_and_the_way_out(
    run: Path, output: str, source: str, files: str, message: str, remedy: str
) -> None:
    with pytest.raises(OutputError) as refused:
        refuse(*(place.format(run) for place in (output, source, files)))
    assert refused.value.message == message.replace("{}", str(run))
    assert refused.value.remedy == remedy
    places = {"output": output.format(run), "source": source.format(run)}
    assert refused.value.details == places
