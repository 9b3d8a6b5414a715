"""What exactly does SOURCE name: which graph, which checkpoint, which files?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.errors import CorruptCheckpoint, OrchestratorError, SourceError
from orchestrator.store.checkpoints import sample, source
from orchestrator.store.checkpoints.run_checkpoints import scan_all
from orchestrator.store.checkpoints.source import Source, newest_source, resolve_source
from orchestrator.store.objects.location import FileInfo, Location, open_location
from orchestrator.store.run.lineage import record_takeover
from tests.fakes.bundles import meta_bytes, model, write_pointer
from tests.fakes.v1 import write_v1_checkpoint
from tests.store.chains import Run
from tests.store.damage import DATA, cut, flip
from tests.store.runs import saved, uploaded


def refused(url: Path, *, deep: bool = False) -> OrchestratorError:
    with pytest.raises((SourceError, CorruptCheckpoint)) as told:
        resolve_source(str(url), deep=deep)
    return told.value


def names(files: tuple[FileInfo, ...]) -> list[str]:
    return [file.name for file in files]


def test_source_of_a_checkpoint_tells_all_that_is_needed_to_resume_it(directory: Path) -> None:
    cut(directory / "m-300.index", 5)
    found = resolve_source(str(directory))
    meta = directory / "m-200.meta"
    assert (found.url, found.format, found.name) == (str(directory), "V2", "m")
    assert (found.step, found.step_in_name) == (200, 200)
    assert (found.meta.path, found.meta_data) == (str(meta), meta.read_bytes())
    assert found.prefix == open_location(str(directory / "m-200"))
    assert names(found.files) == ["m-200.index", "m-200.data-00000-of-00001"]
    assert [one.checkpoint for one in found.refused] == ["m-300"]
    assert (found.manifest, found.links, found.label) == (None, (), "m-200")
    assert found.place.path == str(directory)


def test_source_of_a_graph_alone_tells_what_there_is(tmp_path: Path) -> None:
    meta = tmp_path / "m-5.meta"
    meta.write_bytes(meta_bytes(model(5)))
    assert resolve_source(str(meta), need_checkpoint=False) == Source(
        url=str(meta),
        meta=open_location(str(meta)),
        name="m",
        prefix=None,
        step_in_name=5,
        refused=(),
        format="V2",
        files=(),
        notes=(),
        meta_data=meta.read_bytes(),
    )


def test_source_of_the_old_format_says_so(tmp_path: Path) -> None:
    write_v1_checkpoint(tmp_path, "m-5", model(5))
    found = resolve_source(str(tmp_path / "m-5"))
    assert (found.format, found.step, names(found.files)) == ("V1", 5, ["m-5"])


@pytest.mark.parametrize("named", ["", "checkpoint", "m-300", "m-300.meta"])
def test_every_byte_is_read_only_where_that_is_asked_for(
    directory: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setattr(sample, "WHOLE_SHARD_BYTES", 0)
    monkeypatch.setattr(sample, "SAMPLE_TENSOR_BYTES", 8)
    flip(directory / DATA, 40)
    assert resolve_source(str(directory / named)).step == 300
    if named.startswith("m-"):
        assert "damaged tensors" in refused(directory / named, deep=True).message
    else:
        deep = resolve_source(str(directory / named), deep=True)
        assert (deep.step, [one.checkpoint for one in deep.refused]) == (200, ["m-300"])


def test_pointer_of_a_graph_alone_names_no_checkpoint_unless_a_graph_will_do(
    tmp_path: Path,
) -> None:
    (tmp_path / "m-5.meta").write_bytes(meta_bytes(model(5)))
    write_pointer(tmp_path, "m-5")
    assert "no checkpoint" in refused(tmp_path / "checkpoint").message
    found = resolve_source(str(tmp_path / "checkpoint"), need_checkpoint=False)
    assert found.prefix is None


@pytest.mark.parametrize("name", ["m-9", "m-9.meta"])
@pytest.mark.parametrize(
    ("count", "there"),
    [
        (0, "; there is no checkpoint in its directory either"),
        (5, "; its directory has m-0, m-1, m-2, m-3, m-4"),
        (6, "; its directory has m-0, m-1, m-2, m-3, m-4 and 1 more"),
        (7, "; its directory has m-0, m-1, m-2, m-3, m-4 and 2 more"),
    ],
)
def test_name_of_nothing_is_refused_with_what_is_there(
    tmp_path: Path, name: str, count: int, there: str
) -> None:
    for step in range(count):
        (tmp_path / f"m-{step}.index").write_bytes(b"")
    told = refused(tmp_path / name)
    assert told.message == f"{tmp_path / name} doesn't exist{there}"
    assert told.remedy == "Give a .meta file, a checkpoint's prefix or a directory"
    assert told.details == {"url": str(tmp_path / name), "missing": True}


def test_manifest_alone_is_neither_graph_nor_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "m-5.manifest.json").write_bytes(b"{}")
    told = refused(tmp_path / "m-5.manifest.json")
    assert told.message == f"{tmp_path}/m-5.manifest.json has neither a .meta nor variables"


def test_directory_of_something_else_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "model.h5").write_bytes(b"")
    assert refused(tmp_path).message.startswith(f"{tmp_path} holds no checkpoint; model.h5 in it")


def test_state_file_that_the_listing_lacks_is_not_asked_for(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "checkpoint").unlink()
    monkeypatch.setattr(source, "read_pointer", lambda _: pytest.fail("it isn't there"))
    assert resolve_source(str(directory)).step == 300


# A run's output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """Three checkpoints of a run."""
    output = open_location(str(tmp_path_factory.mktemp("made") / "out"))
    record_takeover(output, 1, 1, 0)
    for step in (1, 2, 3):
        saved(output, step)
    return output


@pytest.fixture
def output(made: Location, tmp_path: Path) -> Location:
    shutil.copytree(made.path, tmp_path / "out")
    return open_location(str(tmp_path / "out"))


def label(step: int) -> str:
    return f"a0001-g0001/model.ckpt-{step}"


def test_newest_of_a_run_is_a_source_with_what_was_passed_over(output: Location) -> None:
    cut(Path(output.path, f"{label(3)}.index"), 5)
    found, newest = newest_source(output, exclude={label(2): "a worker couldn't read it"})
    assert found is not None
    meta = Path(output.path, f"{label(1)}.meta")
    assert (found.url, found.label, found.step) == (output.shown, label(1), 1)
    assert (found.meta.path, found.meta_data) == (str(meta), meta.read_bytes())
    assert [one.checkpoint for one in found.refused] == [label(3), label(2)]
    assert found.refused == newest.refused
    again = resolve_source(output.url, exclude={label(2): "a worker couldn't read it"})
    assert (again.label, again.refused) == (found.label, found.refused)


def test_every_byte_of_a_runs_checkpoints_is_read_only_where_that_is_asked_for(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "WHOLE_SHARD_BYTES", 0)
    monkeypatch.setattr(sample, "SAMPLE_TENSOR_BYTES", 8)
    flip(Path(output.path, f"{label(3)}.data-00000-of-00001"), 40)
    for deep, step in ((False, 3), (True, 2)):
        found, _ = newest_source(output, deep=deep)
        assert found is not None
        assert (found.step, resolve_source(output.url, deep=deep).step) == (step, step)
    found, _ = newest_source(output)
    assert found is not None
    assert found.step == 3


def test_run_that_has_nothing_to_go_on_from_says_why(output: Location, tmp_path: Path) -> None:
    fresh = open_location(str(tmp_path / "fresh"))
    record_takeover(fresh, 1, 1, 0)
    assert newest_source(fresh)[0] is None
    told = refused(tmp_path / "fresh")
    assert told.message == f"{fresh.shown} holds a run that has saved nothing yet"
    uploaded(fresh, 5)
    told = refused(tmp_path / "fresh")
    assert "a0001-g0001/model.ckpt-5: it was never committed" in told.message
    assert fresh.shown in told.message


def test_checkpoint_of_a_run_without_a_graph_is_no_source(output: Location) -> None:
    newest = scan_all(output)[0][0]
    manifest = newest.manifest()
    files = tuple(file for file in manifest.files if not file.name.endswith(".meta"))
    Path(output.path, f"{label(3)}.manifest.json").write_bytes(
        manifest.model_copy(update={"files": files}).to_bytes()
    )
    Path(output.path, f"{label(3)}.meta").unlink()
    with pytest.raises(CorruptCheckpoint) as told:
        newest_source(output)
    assert told.value.message == f"checkpoint {newest.prefix.shown} has no .meta"
    assert told.value.remedy == "Give an older checkpoint as the source by its prefix"


def test_changed_rows_beyond_the_newest_checkpoint_are_told_with_how_to_have_them(
    tmp_path: Path,
) -> None:
    output = open_location(str(tmp_path / "out"))
    record_takeover(output, 1, 1, 0)
    run = Run(40, 2)
    run.train()
    run.saved(output)
    links = tuple(run.saves)
    record_takeover(output, 2, 1, 1, parent=(1, 1))
    run.commit(output, run.save_changes(output, links, attempt=2))
    assert resolve_source(output.url).notes == (), "it's of the same step"
    run.train()
    run.commit(output, run.save_changes(output, links, attempt=2))
    changed = f"{output.shown}/a0002-g0001/m-2.changed"
    assert resolve_source(output.url).notes == (
        f"the run in {output.shown} has saved changed rows up to step 2, which are no checkpoint by themselves: "
        f"`tfresume export {changed} --to checkpoint --all --output DIRECTORY` makes one of them",
    )
    run.train()
    run.saved(output, attempt=2)
    cut(Path(output.path, "a0002-g0001", "m-3.index"), 5)
    found = resolve_source(output.url)
    assert (found.step, found.notes) == (1, ()), "what is newest is no save of changed rows"
