"""What is a commit refused for, and what is told of it?"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import LeaseLost, OutputError, StorageUnavailable
from orchestrator.store.checkpoints import run_checkpoints
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.checkpoints.run_checkpoints import scan_all
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.lineage import record_takeover
from tests.store.chains import Run
from tests.store.runs import saved, uploaded


@pytest.fixture
def output(tmp_path: Path) -> Location:
    found = open_location(str(tmp_path / "out"))
    record_takeover(found, 1, 1, 0)
    return found


def test_commit_that_the_store_does_not_list_yet_is_told_and_sets_no_pointer_back(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(output, 100)
    late = saved(output, 200).label
    output.child("checkpoint").write_bytes(b"mine")
    manifest = uploaded(output, 300)
    real = run_checkpoints._written_by
    with monkeypatch.context() as listing:
        listing.setattr(
            run_checkpoints,
            "_written_by",
            lambda *given: [item for item in real(*given) if item.label < late],
        )
        with pytest.raises(StorageUnavailable) as told:
            commit(output, manifest)
    shown = output.child("a0001-g0001", "model.ckpt-300.manifest.json").shown
    assert told.value.message == f"{shown} was written but isn't listed"
    assert told.value.remedy == "The store forgets or delays: calling again finds out"
    assert output.child("checkpoint").read_if_exists() == b"mine"
    assert commit(output, manifest).step == 300
    assert read_pointer(output) == manifest.label


@pytest.mark.parametrize("listed", ["nothing", "all but the index"])
def test_checkpoint_without_an_index_is_never_committed(output: Location, listed: str) -> None:
    """All that such a manifest lists may well be there."""
    manifest = uploaded(output, 300)
    files = [record for record in manifest.files if not record.name.endswith(".index")]
    lacking = manifest.model_copy(update={"files": [] if listed == "nothing" else files})
    with pytest.raises(OutputError) as told:
        commit(output, lacking)
    assert told.value.message == (
        "a0001-g0001/model.ckpt-300 lists no model.ckpt-300.index, so it isn't committed"
    )
    assert told.value.remedy == "The next save tries again"
    assert not output.child(manifest.directory, manifest.file_name).exists()
    assert commit(output, manifest).step == 300


def test_changed_rows_over_a_save_that_does_not_count_are_never_committed(
    output: Location,
) -> None:
    run = Run()
    run.train()
    run.saved(output)
    run.train()
    run.saved_changes(output)
    record_takeover(output, 2, 1, 1, parent=(1, 1))
    run.train()
    manifest = run.save_changes(output, tuple(run.saves), attempt=2)
    with pytest.raises(OutputError, match="which doesn't count: saved at step 2") as told:
        run.commit(output, manifest)
    assert told.value.message.startswith(
        "a0002-g0001/m-3.changed stands on a0001-g0001/m-2.changed"
    )
    assert told.value.remedy == "The next save has to be a full one"
    assert not [item for item in scan_all(output)[1] if item.step == 3 and item.committed]


def test_changed_rows_over_a_save_of_which_nothing_is_left_are_never_committed(
    output: Location,
) -> None:
    run = Run()
    run.train()
    run.saved(output)
    run.train()
    manifest = run.save_changes(output, tuple(run.saves))
    for path in (Path(output.path) / "a0001-g0001").glob("m-1.*"):
        path.unlink()
    with pytest.raises(OutputError, match="stands on a0001-g0001/m-1, which isn't there"):
        run.commit(output, manifest)


def test_commit_before_its_take_over_is_recorded_can_be_tried_again(output: Location) -> None:
    manifest = uploaded(output, 100, attempt=2)
    with pytest.raises(StorageUnavailable) as told:
        commit(output, manifest)
    assert told.value.message == (
        "a0002-g0001/model.ckpt-100 can't be committed yet: "
        "that a0002-g0001 took over isn't recorded in the output"
    )
    assert told.value.remedy == "Record the take-over, then commit again"
    record_takeover(output, 2, 1, 0)
    assert commit(output, manifest).label == manifest.label


def test_commit_into_an_output_without_any_take_over_can_be_tried_again(tmp_path: Path) -> None:
    output = open_location(str(tmp_path / "new"))
    manifest = uploaded(output, 100)
    with pytest.raises(StorageUnavailable, match="isn't recorded"):
        commit(output, manifest)


def test_commit_of_a_generation_that_was_taken_over_from_says_so(output: Location) -> None:
    manifest = uploaded(output, 100)
    record_takeover(output, 2, 1, 50, parent=(1, 1))
    with pytest.raises(LeaseLost) as told:
        commit(output, manifest)
    assert told.value.message == (
        "a0001-g0001/model.ckpt-100 can't be committed: saved at step 100 by a0001-g0001, "
        "after a0002-g0001 had taken over at step 50"
    )
    assert told.value.remedy == "Nothing to do: another driver goes on with this run"


def test_commit_over_files_that_lack_bytes_names_each_of_them(output: Location) -> None:
    manifest = uploaded(output, 100)
    directory = output.child("a0001-g0001")
    sizes = {record.name: record.size_bytes for record in manifest.files}
    directory.child("model.ckpt-100.index").write_bytes(b"12")
    directory.child("model.ckpt-100.meta").delete()
    with pytest.raises(OutputError) as told:
        commit(output, manifest)
    lacking = (
        f"model.ckpt-100.index has 2 of {sizes['model.ckpt-100.index']} bytes",
        f"model.ckpt-100.meta has no of {sizes['model.ckpt-100.meta']} bytes",
    )
    told_of = told.value.message.removeprefix(
        f"{directory.shown} isn't complete, so it isn't committed: "
    )
    assert sorted(told_of.split("; ")) == sorted(lacking)
    assert told.value.remedy == "The next save tries again"
