"""Die before every single write of a save, a clean-up, a take-over: afterwards there's the old or
the new, never a mixture.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.driver.past import KINDS
from orchestrator.errors import LeaseLost, OrchestratorError
from orchestrator.journal.folding import frozen
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.newest_good import newest_good
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.checkpoints.pointing import set_pointer
from orchestrator.store.checkpoints.retention import prune, retain
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.layout import checkpoint_dir
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run import snapshots
from orchestrator.store.run.journal import Journal, read_journal
from orchestrator.store.run.lease import acquire, observe
from orchestrator.store.run.lineage import read_lineage, record_takeover
from orchestrator.store.run.run_record import RunRecord, create_run_record, read_run_record
from orchestrator.store.run.snapshots import read_folds, write_snapshot
from orchestrator.store.transfer.upload import upload
from tests.fakes import journals_at_random
from tests.fakes.bundles import model, write_checkpoint
from tests.fakes.clocks import FakeClock
from tests.fakes.dying import Death, Died, dying
from tests.fakes.pausing import Pause
from tests.store.runs import NAME, saved

pytestmark = [pytest.mark.slow, pytest.mark.turns(9, "dying before every write")]
MOST_WRITES = 200


def each_death(run: Callable[[Death], None], recovered: Callable[[int], None]) -> int:
    """Runs with a death before write 0, 1, 2 … until one survives; checks after each. Returns how
    many died.
    """
    for at in range(MOST_WRITES):
        death = Death(at)
        try:
            run(death)
        # a group, where parts were on their way side by side
        except (Died, OrchestratorError, BaseExceptionGroup):
            assert death.happened
        if not death.happened:
            assert death.writes == at
            return at
        recovered(at)
    raise AssertionError(f"still dying after {MOST_WRITES} writes")


def save_files(scratch: Path, step: int) -> list[Path]:
    return write_checkpoint(scratch, f"{NAME}-{step}", model(step), shards=2)


def save_200(output: Location, files: list[Path], death: Death, **how: int) -> None:
    """Uploads and commits files, and may die on the way."""
    with pytest.MonkeyPatch.context() as patch:
        mortal = dying(output, death, patch)
        records = upload(files, mortal.child(checkpoint_dir(1, 1)), **how)
        commit(
            mortal,
            Manifest(
                name=NAME, step=200, attempt=1, generation=1, files=records, step_key="global_step"
            ),
        )


def assert_whole(output: Location, allowed: set[int | None]) -> None:
    """Every checkpoint that exists verifies to the last byte, the newest is one of those allowed,
    and TensorFlow's pointer is whole.
    """
    for item in list_checkpoints(output):
        assert item.check(deep=True).step == item.step
    newest = newest_good(output, deep=True)
    assert (newest.checkpoint.step if newest.checkpoint else None) in allowed
    pointed = read_pointer(output)
    if pointed is not None:
        labels = {item.label for item in list_checkpoints(output)}
        assert pointed in labels


def test_save_dying_before_every_write_leaves_old_or_new(store: Location) -> None:
    deaths = 0

    def prepared(number: int) -> Location:
        output = store.child(f"run{number}")
        record_takeover(output, 1, 1, 0)
        saved(output, 100)
        return output

    with tempfile.TemporaryDirectory() as scratch:
        files = save_files(Path(scratch), 200)
        outputs: list[Location] = []

        def run(death: Death) -> None:
            output = prepared(len(outputs))
            outputs.append(output)
            save_200(output, files, death)

        def recovered(at: int) -> None:
            output = outputs[-1]
            assert_whole(output, {100, 200})
            # The next driver takes over, and saves the same step under its own number
            newest = newest_good(output).checkpoint
            assert newest is not None
            record_takeover(output, 2, 1, newest.step, parent=newest.generation_id)
            set_pointer(output)
            assert read_pointer(output) == newest.label
            saved(output, 200, attempt=2)
            assert_whole(output, {200})

        deaths = each_death(run, recovered)
        assert_whole(outputs[-1], {200})
    assert deaths >= 6  # four files, manifest, pointer


PART = 5 << 20
"""The least that S3 takes as a part that isn't the last."""


@pytest.mark.parametrize(("store", "least"), [("s3", 4), ("gcs", 5)], indirect=["store"])
def test_upload_in_parts_dying_before_every_call_leaves_old_or_new(
    store: Location, least: int, tmp_path: Path
) -> None:
    """Where one file takes many calls (S3: begin, each part, complete; Google: each part, compose,
    each part away).
    """
    files = write_checkpoint(tmp_path, f"{NAME}-200", model(200, rows=(PART + PART // 8) // 16))
    outputs: list[Location] = []

    def run(death: Death) -> None:
        output = store.child(f"run{len(outputs)}")
        outputs.append(output)
        record_takeover(output, 1, 1, 0)
        saved(output, 100)
        save_200(output, files, death, part_bytes=PART)

    def recovered(at: int) -> None:
        output = outputs[-1]
        assert_whole(output, {100, 200})
        newest = newest_good(output).checkpoint
        assert newest is not None
        record_takeover(output, 2, 1, newest.step, parent=newest.generation_id)
        prune(output, held=False)
        assert not [
            entry.name
            for entry in output.child(checkpoint_dir(1, 1)).list()
            if ".part-" in entry.name
        ]
        if store.protocol == "s3":
            bucket, path, _ = output.fs.split_path(output.path)
            under_way = output.fs.call_s3("list_multipart_uploads", Bucket=bucket).get(
                "Uploads", []
            )
            assert not [item for item in under_way if item["Key"].startswith(f"{path}/")]

    deaths = each_death(run, recovered)
    assert_whole(outputs[-1], {200})
    assert deaths >= least + 4  # index, graph, manifest and pointer beside the file in parts


# moto is slow, and nothing here is S3's own
@pytest.mark.parametrize("store", ["local", "memory", "gcs"], indirect=True)
def test_retain_dying_before_every_write_never_leaves_a_half_checkpoint(store: Location) -> None:
    outputs: list[Location] = []

    def run(death: Death) -> None:
        output = store.child(f"run{len(outputs)}")
        outputs.append(output)
        record_takeover(output, 1, 1, 0)
        for step in (100, 200, 300):
            saved(output, step)
        with pytest.MonkeyPatch.context() as patch:
            retain(dying(output, death, patch), max_to_keep=1, keep_every_hours=10000)

    def recovered(at: int) -> None:
        output = outputs[-1]
        assert_whole(output, {300})
        retain(output, max_to_keep=1, keep_every_hours=10000)
        assert [item.step for item in list_checkpoints(output)] == [300]
        names = {entry.name for entry in output.child("a0001-g0001").list()}
        assert {
            name.rpartition("-")[2].partition(".")[0] for name in names if "data" not in name
        } == {"300"}
        assert output.child("_tfresume", "deleting").list() == ()

    assert each_death(run, recovered) >= 10


def test_driver_paused_before_every_write_of_a_save_or_a_clean_up_harms_nothing_of_the_next(
    tmp_path: Path,
) -> None:
    """Whatever the first driver had in flight when it was paused, the second one's checkpoints are
    whole and in force.
    """
    files = save_files(tmp_path / "files", 300)
    clock = FakeClock()

    def each(at: int) -> bool:
        output = open_location(str(tmp_path / f"run{at}"))
        first = acquire(output, "first", now=clock.now, wait=clock.wait)
        record_takeover(output, 1, 1, 0)
        for step in (100, 200):
            saved(output, step, lease=first)

        def meanwhile() -> None:
            second = acquire(output, "second", now=clock.now, wait=clock.wait)
            newest = newest_good(output).checkpoint
            assert newest is not None
            record_takeover(output, 2, 1, newest.step, parent=newest.generation_id)
            for step in (250, 300, 350):
                saved(output, step, attempt=2, lease=second)

        pause = Pause(at, meanwhile)
        with pytest.MonkeyPatch.context() as patch:
            slow = dying(output, pause, patch)
            mine = replace(first, output=slow)
            try:
                records = upload(files, slow.child(checkpoint_dir(1, 1)))
                manifest = Manifest(
                    name=NAME,
                    step=300,
                    attempt=1,
                    generation=1,
                    files=records,
                    step_key="global_step",
                )
                commit(slow, manifest, lease=mine)
                retain(slow, max_to_keep=2, keep_every_hours=10000, lease=mine)
            except LeaseLost:
                assert pause.happened
        if pause.happened:
            second_s = [
                item.step for item in list_checkpoints(output) if item.generation_id.attempt == 2
            ]
            assert second_s == [350, 300, 250], f"paused before write {at}"
            newest = newest_good(output, deep=True).checkpoint
            assert newest is not None
            assert newest.label == "a0002-g0001/model.ckpt-350"
            for item in list_checkpoints(output):
                assert item.check(deep=True).step == item.step
            saved(output, 400, attempt=2)
            assert read_pointer(output) == "a0002-g0001/model.ckpt-400"
        return pause.happened

    paused = 0
    while each(paused):
        paused += 1
    # four files, manifest, pointer, then the clean-up's note, pointer and files
    assert paused >= 15


@pytest.mark.parametrize("store", ["local", "memory", "gcs"], indirect=True)
def test_take_over_dying_before_every_write_can_be_done_again(store: Location) -> None:
    outputs: list[Location] = []
    clock = FakeClock()

    def start(output: Location) -> int:
        lease = acquire(output, "driver", now=clock.now, wait=clock.wait)
        create_run_record(
            output, RunRecord(source="s", fingerprint="f", name=NAME, started_step=100)
        )
        journal = Journal(output, lease.attempt)
        journal.append({"event": "start", "at": 0.0}, durable=True)
        record_takeover(output, lease.attempt, 1, 100)
        lease.release()
        return lease.attempt

    def run(death: Death) -> None:
        output = store.child(f"run{len(outputs)}")
        outputs.append(output)
        with pytest.MonkeyPatch.context() as patch:
            start(dying(output, death, patch))

    def recovered(at: int) -> None:
        output = outputs[-1]
        attempt = start(output)
        head = read_lineage(output).head
        assert head is not None
        assert (head.attempt, head.step) == (attempt, 100)
        record = read_run_record(output)
        assert record is not None
        assert record.started_step == 100
        assert [event["attempt"] for event in read_journal(output)][-1] == attempt
        assert observe(output).released

    assert each_death(run, recovered) >= 5


def test_journal_dying_before_every_write_loses_nothing_that_was_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    merge = 6
    monkeypatch.setattr("orchestrator.store.run.journal.MERGE", merge)
    outputs: list[Location] = []
    confirmed: list[int] = []
    events = 2 * merge + 3

    def run(death: Death) -> None:
        outputs.append(open_location(f"memory://{uuid.uuid4().hex}"))
        confirmed.clear()
        with pytest.MonkeyPatch.context() as patch:
            journal = Journal(dying(outputs[-1], death, patch), 1)
            for number in range(events):
                journal.append({"event": "tick", "at": 0.0, "number": number}, durable=True)
                confirmed.append(number)

    def recovered(at: int) -> None:
        numbers = [event["number"] for event in read_journal(outputs[-1])]
        assert numbers[: len(confirmed)] == confirmed
        assert len(numbers) - len(confirmed) in (0, 1)  # the one whose reply was never seen
        Journal(outputs[-1], 2).append({"event": "tick", "at": 0.0, "number": -1}, durable=True)
        assert [event["number"] for event in read_journal(outputs[-1])] == [*numbers, -1]

    assert each_death(run, recovered) == events + 2 + 2 * merge


def test_snapshots_of_a_journal_dying_before_every_write_never_say_what_the_journal_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    merge = 3
    monkeypatch.setattr("orchestrator.store.run.journal.MERGE", merge)
    outputs: list[Location] = []
    events = journals_at_random.records(1, merge**2 + 4, attempts=1)

    def run(death: Death) -> None:
        outputs.append(open_location(f"memory://{uuid.uuid4().hex}"))
        with pytest.MonkeyPatch.context() as patch:
            mortal = dying(outputs[-1], death, patch)
            journal = Journal(mortal, 1, lambda: write_snapshot(mortal, KINDS))
            for event in events:
                journal.append(event, durable=True)

    def states(output: Location) -> dict[str, object]:
        return {name: frozen(fold) for name, fold in read_folds(output, KINDS).folds.items()}

    def recovered(at: int) -> None:
        told = states(outputs[-1])
        with monkeypatch.context() as patch:
            patch.setattr(snapshots, "_usable", lambda *_: iter(()))
            assert told == states(outputs[-1])

    # Four merges and their snapshots, of which two stay; one of three merged parts
    writes = len(events) + 4 * (1 + 1 + merge) + 2 + (1 + merge)
    assert each_death(run, recovered) == writes
