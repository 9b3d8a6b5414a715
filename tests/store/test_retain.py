"""Does ``retain`` let go what the rules let go, and nothing of it too early or on wrong facts?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import LeaseLost
from orchestrator.store.checkpoints import pointing, retention
from orchestrator.store.checkpoints.pointer import pointer_text, read_pointer
from orchestrator.store.checkpoints.retention import (
    Retained,
    delete_checkpoint,
    deletion_note,
    prune,
    retain,
)
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, list_checkpoints, scan_all
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import GenerationId
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import FORMAT
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from tests.fakes.clocks import FakeClock
from tests.store.chains import Run
from tests.store.runs import saved, uploaded

NEVER_H = 10_000.0


@pytest.fixture
def output(tmp_path: Path) -> Location:
    found = open_location(str(tmp_path / "out"))
    record_takeover(found, 1, 1, 0)
    return found


def label(step: int) -> str:
    return f"a0001-g0001/model.ckpt-{step}"


def damage(output: Location, step: int) -> None:
    output.child("a0001-g0001", f"model.ckpt-{step}.index").write_bytes(b"broken")


def test_retain_keeps_one_checkpoint_for_every_so_many_hours_of_training(output: Location) -> None:
    for step in range(1, 8):
        saved(output, step, training_s=3600.0 * step)
    done = retain(output, max_to_keep=2, keep_every_hours=3.0)
    assert done == Retained(
        tuple(label(step) for step in (7, 6, 3)), tuple(label(step) for step in (5, 4, 2, 1))
    )
    assert [item.step for item in list_checkpoints(output)] == [7, 6, 3]


def test_retain_without_a_good_checkpoint_deletes_nothing(output: Location) -> None:
    for step in (1, 2, 3):
        saved(output, step)
        damage(output, step)
    done = retain(output, max_to_keep=1, keep_every_hours=NEVER_H)
    assert done == Retained((label(3), label(2), label(1)), ())


def test_pointer_names_what_is_kept_before_anything_is_deleted(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3, 4):
        saved(output, step)
    real: Any = retention.__dict__["point"]
    there: list[list[int]] = []

    def noted(*given: Any) -> None:
        there.append([item.step for item in list_checkpoints(output)])
        real(*given)

    monkeypatch.setattr(retention, "point", noted)
    retain(output, max_to_keep=2, keep_every_hours=NEVER_H)
    assert there == [[4, 3, 2, 1]]
    written = output.child("checkpoint").read_if_exists()
    assert written == pointer_text(label(4), [label(3), label(4)])


def test_retain_where_nothing_goes_leaves_the_pointer_alone(output: Location) -> None:
    saved(output, 1)
    output.child("checkpoint").write_bytes(b"mine")
    retain(output, max_to_keep=2, keep_every_hours=NEVER_H)
    assert output.child("checkpoint").read_if_exists() == b"mine"


def test_driver_that_sleeps_before_the_pointer_of_what_is_kept_sets_its_successors_not_back(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    first = acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
    for step in (10, 20):
        saved(output, step, lease=first)
    real: Any = pointing.__dict__["write_pointer"]
    slept: list[str] = []

    def sleeps_before(output: Any, newest: str, labels: Any) -> None:
        if not slept:
            slept.append(newest)
            second = acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
            record_takeover(output, second.attempt, 1, 20, parent=(1, 1))
            saved(output, 30, attempt=2, lease=second)
        real(output, newest, labels)

    monkeypatch.setattr(pointing, "write_pointer", sleeps_before)
    with pytest.raises(LeaseLost):
        retain(output, max_to_keep=1, keep_every_hours=NEVER_H, lease=first)
    assert slept == [label(20)]
    assert read_pointer(output) == "a0002-g0001/model.ckpt-30"
    assert [item.step for item in list_checkpoints(output)] == [30, 20, 10]


def test_driver_that_lost_its_run_deletes_no_save_of_changed_rows_either(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, run = FakeClock(), Run()
    first = acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
    outlived(output, run)
    real: Any = retention.__dict__["scan_all"]

    def sleeps_then(output: Any) -> Any:
        listed = real(output)
        acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
        return listed

    monkeypatch.setattr(retention, "scan_all", sleeps_then)
    with pytest.raises(LeaseLost):
        retain(output, max_to_keep=5, keep_every_hours=NEVER_H, lease=first)
    assert len(scan_all(output)[1]) == 1


def outlived(output: Location, run: Run) -> Checkpoint:
    """A full save, one of changed rows, and a full one that it isn't needed after."""
    run.train()
    run.saved(output)
    run.train()
    change = run.saved_changes(output)
    run.train()
    run.saved(output)
    return change


def test_save_of_changed_rows_goes_once_it_is_outlived_unless_somebody_reads_it(
    output: Location,
) -> None:
    change = outlived(output, Run())
    done = retain(
        output, max_to_keep=5, keep_every_hours=NEVER_H, needed=lambda: frozenset({change.label})
    )
    assert done.deleted == ()
    done = retain(output, max_to_keep=5, keep_every_hours=NEVER_H, protect={change.label})
    assert done.deleted == ()
    done = retain(output, max_to_keep=5, keep_every_hours=NEVER_H)
    assert done.deleted == (change.label,)
    assert scan_all(output)[1] == ()


def test_retain_ends_uploads_of_earlier_generations_only(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[GenerationId | None] = []

    def noted(_output: Location, before: GenerationId | None = None) -> int:
        told.append(before)
        return 0

    monkeypatch.setattr(retention, "abort_abandoned", noted)
    retain(output, max_to_keep=1, keep_every_hours=NEVER_H)
    assert told == [], "nothing is there of which a generation could be told"
    saved(output, 1)
    record_takeover(output, 1, 2, 1, parent=(1, 1))
    saved(output, 2, generation=2)
    retain(output, max_to_keep=1, keep_every_hours=NEVER_H)
    assert told == [(1, 2)]


def test_retain_reads_no_more_manifests_than_decide(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 7):
        saved(output, step)
    damage(output, 6)
    read: list[int] = []
    real = Checkpoint.manifest

    def noted(item: Checkpoint) -> Any:
        read.append(item.step)
        return real(item)

    monkeypatch.setattr(Checkpoint, "manifest", noted)
    retain(output, max_to_keep=0, keep_every_hours=NEVER_H)
    assert read == [6, 5], "up to the newest good one"
    read.clear()
    retain(output, max_to_keep=4, keep_every_hours=0.0)
    assert sorted(read) == [1, 2, 5, 6], "and those beyond the window"


def test_checkpoint_whose_manifest_is_damaged_stays_since_nobody_knows_its_files(
    output: Location,
) -> None:
    for step in (1, 2, 3):
        saved(output, step)
    output.child("a0001-g0001", "model.ckpt-1.manifest.json").write_bytes(b"{")
    done = retain(output, max_to_keep=1, keep_every_hours=NEVER_H)
    assert done.deleted == (label(2),)
    assert output.child("a0001-g0001", "model.ckpt-1.index").exists()


def test_save_that_was_never_committed_is_no_checkpoint_to_delete(output: Location) -> None:
    uploaded(output, 1)
    (item,) = scan_all(output)[0]
    assert not delete_checkpoint(item)
    assert output.child("a0001-g0001", "model.ckpt-1.index").exists()


def test_deletion_goes_by_the_note_of_whoever_began_it(output: Location) -> None:
    """Another version may write the same manifest in other bytes."""
    item = saved(output, 1)
    create_once(deletion_note(item), item.manifest().to_bytes() + b"\n")
    assert delete_checkpoint(item)
    assert output.child("a0001-g0001").list() == ()
    assert not deletion_note(item).exists()


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "of a later version"])
def test_note_of_a_deletion_that_cannot_be_read_is_let_go_and_stops_no_other(
    output: Location, caplog: pytest.LogCaptureFixture, is_cut: bool
) -> None:
    """A crash left half of it on a disk without links: every later deletion would have failed."""
    first, second, *_ = (saved(output, step) for step in (1, 2, 3, 4))
    later = first.manifest().model_copy(update={"format": FORMAT + 1}).to_bytes()
    deletion_note(first).write_bytes(b"{" if is_cut else later)
    create_once(deletion_note(second), second.manifest().to_bytes())
    done = retain(output, max_to_keep=2, keep_every_hours=NEVER_H)
    assert done == Retained((label(4), label(3)), (label(1),))
    assert [item.step for item in list_checkpoints(output)] == [4, 3]
    assert output.child("_tfresume", "deleting").list() == ()
    (told,) = (record.getMessage() for record in caplog.records)
    assert "deleting/a0001-g0001.model.ckpt-1.json" in told
    assert "--prune" in told


def test_files_of_a_checkpoint_whose_note_is_damaged_are_taken_by_prune(output: Location) -> None:
    """The crash came between manifest and files, and the note was damaged after that."""
    going = saved(output, 1)
    saved(output, 2)
    assert going.manifest_file is not None
    going.manifest_file.location.delete()
    deletion_note(going).write_bytes(b"")
    prune(output, held=False)
    assert [item.step for item in list_checkpoints(output)] == [2]
    names = {entry.name for entry in output.child("a0001-g0001").list()}
    assert not any(name.startswith("model.ckpt-1.") for name in names)
    assert output.child("_tfresume", "deleting").list() == ()


def test_deletion_beside_a_damaged_note_goes_by_the_manifest(output: Location) -> None:
    item = saved(output, 1)
    deletion_note(item).write_bytes(b"{")
    assert delete_checkpoint(item)
    assert output.child("a0001-g0001").list() == ()
    assert not deletion_note(item).exists()


def test_retain_that_does_not_find_what_was_committed_just_now_keeps_all_the_others(
    output: Location,
) -> None:
    """The store lists late."""
    for step in (1, 2):
        saved(output, step)
    done = retain(output, max_to_keep=1, keep_every_hours=NEVER_H, protect={label(3)})
    assert done == Retained((label(2), label(1)), ())
    assert [item.step for item in list_checkpoints(output)] == [2, 1]
