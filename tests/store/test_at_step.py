"""Is the checkpoint of a step the one that is named, in directories of TensorFlow's and of ours?"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import parse_config
from orchestrator.errors import SourceError
from orchestrator.store.checkpoints.at_step import at_step
from orchestrator.store.checkpoints.source import named_source, resolve_source
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from tests.fakes.bundles import model, write_checkpoint
from tests.store.runs import saved


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    for step in (500, 1000, 1500):
        write_checkpoint(tmp_path, f"model.ckpt-{step}", model(step))
    return tmp_path


def test_checkpoint_of_a_step_is_taken_though_there_are_newer_ones(foreign: Path) -> None:
    config = parse_config({"source": str(foreign), "from_step": 1000})
    found = resolve_source(named_source(config))
    assert found.step == 1000
    assert found.refused == (), "what wasn't asked for wasn't passed over either"
    newest = parse_config({"source": str(foreign)})
    assert resolve_source(named_source(newest)).step == 1500


def test_checkpoint_of_a_step_of_a_runs_output_is_the_newest_generations(tmp_path: Path) -> None:
    output = open_location(str(tmp_path / "out"))
    lease = acquire(output)
    record_takeover(output, 1, 1, 0)
    saved(output, 600, generation=1)
    record_takeover(output, 1, 2, 500)  # it fences what generation 1 saved beyond
    saved(output, 600, generation=2)
    saved(output, 700, generation=2)
    lease.release()
    url = at_step(output.url, 600)
    assert url.endswith("a0001-g0002/model.ckpt-600")
    found = resolve_source(url)
    assert found.step == 600


def test_step_that_is_not_there_is_refused_with_those_that_are(foreign: Path) -> None:
    with pytest.raises(SourceError, match="no checkpoint of step 800; it has 500, 1,000, 1,500"):
        at_step(str(foreign), 800)


def test_two_models_of_one_step_are_never_guessed_between(foreign: Path) -> None:
    write_checkpoint(foreign, "other-500", model(500))
    with pytest.raises(SourceError, match=r"2 checkpoints of step 500: model.ckpt-500, other-500"):
        at_step(str(foreign), 500)


def test_step_of_what_is_no_directory_is_refused(foreign: Path) -> None:
    with pytest.raises(SourceError, match="is no directory with checkpoints"):
        at_step(str(foreign / "model.ckpt-500"), 500)


def put(directory: Path, *names: str) -> None:
    for name in names:
        (directory / f"{name}.index").write_bytes(b"x")


def refused(directory: Path, step: int) -> SourceError:
    with pytest.raises(SourceError) as told:
        at_step(str(directory), step)
    return told.value


def test_refusal_of_a_step_tells_the_newest_dozen_of_those_that_are_there(tmp_path: Path) -> None:
    empty = refused(tmp_path, 1500)
    assert empty.message == (
        f"{tmp_path} has no checkpoint of step 1,500 to choose: it is no directory with checkpoints"
    )
    assert empty.remedy == "Give the directory, or the checkpoint's own prefix without a step"
    put(tmp_path, "model")
    assert refused(tmp_path, 5).message == (
        f"{tmp_path} has no checkpoint of step 5; it has none with a step in its name"
    )
    put(tmp_path, *(f"m-{step}" for step in range(1, 13)))
    (tmp_path / "graph-99.meta").write_bytes(b"no checkpoint")
    dozen = ", ".join(str(step) for step in range(1, 13))
    assert refused(tmp_path, 99).message.endswith(f"step 99; it has {dozen}")
    put(tmp_path, "m-2000")
    told = refused(tmp_path, 99)
    dozen = ", ".join(str(step) for step in range(2, 13))
    assert told.message.endswith(f"it has 1 earlier, {dozen}, 2,000")
    assert told.remedy == "Choose one of these steps"
    assert told.details == {"steps": [*range(1, 13), 2000]}
    put(tmp_path, "n-2000")
    several = refused(tmp_path, 2000)
    assert several.message == f"{tmp_path} has 2 checkpoints of step 2,000: m-2000, n-2000"
    assert several.remedy == "Give the prefix of one of them, without a step"
    assert at_step(str(tmp_path), 12) == f"{tmp_path}/m-12"


def test_directory_is_a_runs_own_by_what_only_a_run_makes(tmp_path: Path) -> None:
    put(tmp_path, "m-5")
    (tmp_path / "_tfresume").write_bytes(b"a file of that name is no run's")
    (tmp_path / "events").mkdir()
    assert at_step(str(tmp_path), 5).endswith("/m-5")
    (tmp_path / "a0001-g0001").mkdir()
    assert refused(tmp_path, 5).message.endswith("it is no directory with checkpoints")
