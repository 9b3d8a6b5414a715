"""Does the thread that writes to the output keep its order, try again, and tell what failed?"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.decide import events as ev
from orchestrator.decide.save_parts import SavedPart
from orchestrator.driver import restorable
from orchestrator.driver import storage_thread as storage_thread_module
from orchestrator.driver.edited_graph import source_loading
from orchestrator.driver.inbox import Remark, Restorable
from orchestrator.driver.past import KINDS
from orchestrator.driver.save_manifests import Saved
from orchestrator.driver.storage_thread import StorageThread
from orchestrator.errors import LeaseLost, StorageUnavailable
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.journal.parsing import parse
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.store.checkpoints import commits
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.pointer import read_pointer, write_pointer
from orchestrator.store.checkpoints.retention import Retained
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.evaluations import Evaluations
from orchestrator.store.run.journal import read_journal
from orchestrator.store.run.lease import Lease, acquire
from orchestrator.store.run.lineage import read_lineage, record_takeover
from orchestrator.store.run.snapshots import read_folds
from orchestrator.store.transfer.upload import upload
from orchestrator.workers.scheduling import Threads
from tests.fakes.bundles import model, write_checkpoint
from tests.store.damage import flip
from tests.store.runs import saved, uploaded, uploaded_parts


class Bench:
    """A storage thread over a directory, and what it tells the loop."""

    def __init__(
        self,
        directory: Path,
        trained_s: float = 0.0,
        label: str | None = None,
        parent: tuple[int, int] | None = (0, 0),
    ) -> None:
        self.output: Location = open_location(str(directory / "out"))
        self.lease: Lease = acquire(self.output)
        self.told: queue.Queue[Any] = queue.Queue()
        config = parse_config(
            {"source": str(directory / "none"), "output": self.output.url, "until_step": 9}
        )
        saved = Saved("f", None, ())
        self.storage_thread = StorageThread(
            self.output, self.lease, config, saved, parent, label, trained_s, self.told.put
        )
        self.scratch = directory

    def written(self, step: int, generation: int = 1) -> ev.SaveWritten:
        file = self.scratch / f"model.ckpt-{step}.index"
        file.write_bytes(b"bytes")
        directory = f"a0001-g{generation:04d}"
        records = upload([file], self.output.child(directory))
        return ev.SaveWritten(
            "w", generation, step, 2 * step, directory, f"model.ckpt-{step}", records, {}
        )

    def next(self) -> Any:
        return self.told.get(timeout=10)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.storage_thread.close()


class Ticks(Threads):
    """A clock that moves whenever somebody looks."""

    now_s = 0.0

    def monotonic(self) -> float:
        self.now_s += 1.23456789
        return self.now_s


def test_storage_thread_commits_after_the_take_over_and_tells_both(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.storage_thread, "_scheduler", Ticks())
    bench.storage_thread.take_over(1, 3)
    bench.storage_thread.commit(replace(bench.written(5), stall_s=0.123456), 2)
    told = bench.next()
    assert isinstance(told, Remark)
    assert told.event == SaveCommitted(
        step=5,
        generation=1,
        checkpoint="a0001-g0001/model.ckpt-5",
        size_bytes=len(b"bytes"),
        stall_s=0.1235,
        commit_s=1.2346,
    )
    assert bench.next() == ev.Committed(1, 5, 10)
    assert bench.output.child("a0001-g0001", "model.ckpt-5.manifest.json").exists()


def in_parts(bench: Bench, step: int) -> ev.SaveWritten:
    """A save of three ranks, whose files are in the store but for the index."""
    reports, records = uploaded_parts(bench.output, step)
    about = ("w", 1, step, 2 * step, "a0001-g0001", f"model.ckpt-{step}")
    return ev.SaveWritten(*about, records, {}, reports=reports)


def test_storage_thread_makes_the_one_index_of_a_save_in_parts_and_commits_all(
    bench: Bench,
) -> None:
    bench.storage_thread.take_over(1, 3)
    bench.storage_thread.commit(in_parts(bench, 5), 3)
    bench.next()
    assert bench.next() == ev.Committed(1, 5, 10)
    (found,) = list_checkpoints(bench.output)
    checked = found.check(deep=True)
    assert [record.name for record in found.manifest().files] == [
        "model.ckpt-5.meta",
        *(f"model.ckpt-5.data-0000{rank}-of-00003" for rank in range(3)),
        "model.ckpt-5.index",
    ]
    assert checked.index is not None
    assert checked.index.entries["emb"].shape == (6, 4)
    assert checked.index.entries["emb"].slices == 3
    bench.storage_thread.commit(in_parts(bench, 6), 3)
    bench.next()
    assert bench.next() == ev.Committed(1, 6, 12)
    assert list_checkpoints(bench.output)[0].manifest().parent == found.label


@pytest.mark.parametrize("what", ["report", "file"])
def test_storage_thread_commits_nothing_of_a_save_of_which_a_part_is_missing(
    bench: Bench, what: str
) -> None:
    """Whatever the rules say."""
    bench.storage_thread.take_over(1, 3)
    written = in_parts(bench, 5)
    if what == "report":
        written = replace(written, reports=written.reports[:2])
    else:
        bench.output.child("a0001-g0001", written.files[1].name).delete()
    bench.storage_thread.commit(written, 3)
    failed = bench.next()
    assert isinstance(failed, ev.SaveFailed)
    assert not [item for item in list_checkpoints(bench.output) if item.committed]


def test_storage_thread_that_cannot_write_an_index_has_nothing_in_doubt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*args: Any) -> Any:
        raise StorageUnavailable("503")

    real = storage_thread_module.send_index  # type: ignore[attr-defined]
    bench.storage_thread.take_over(1, 3)
    monkeypatch.setattr(storage_thread_module, "send_index", down)
    bench.storage_thread.commit(in_parts(bench, 5), 3)
    failed = bench.next()
    assert (type(failed), failed.detail) == (ev.SaveFailed, "503")
    monkeypatch.setattr(storage_thread_module, "send_index", real)
    bench.storage_thread.commit(in_parts(bench, 6), 3)
    bench.next()
    assert bench.next() == ev.Committed(1, 6, 12)
    assert [item.step for item in list_checkpoints(bench.output) if item.committed] == [6]


def test_storage_thread_records_a_take_over_that_failed_before_the_next_commit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = failing(monkeypatch, "record_takeover", 1, storage_thread_module)
    bench.storage_thread.take_over(1, 3)
    bench.storage_thread.commit(bench.written(5), 2)
    bench.next()
    assert bench.next() == ev.Committed(1, 5, 10)
    assert not failures
    assert [link.step for link in read_lineage(bench.output).chain] == [3]
    assert [record.getMessage() for record in caplog.records] == ["storage: 503"]


def test_storage_thread_survives_an_error_of_its_own_and_shows_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(storage_thread_module, "record_takeover", lambda *_: 1 // 0)
        bench.storage_thread.take_over(1, 3)
        bench.storage_thread.find("to know that the queue has been worked off", {})
        assert isinstance(bench.next(), ev.Found)
    (told,) = (record for record in caplog.records if record.name == "tfresume")
    assert told.getMessage().startswith("the thread that writes to the output met an error")
    assert told.exc_info is not None
    bench.storage_thread.commit(bench.written(5), 2)
    bench.next()
    assert bench.next() == ev.Committed(1, 5, 10)


def test_storage_thread_moves_with_each_job_as_whoever_waits_for_its_end_sees(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store on a local disk counts no requests."""
    may_go_on = threading.Event()
    done: list[int] = []

    def waits(thread: Any, is_over: Any, moved: Any, scheduler: Any) -> None:
        before, _ = moved()
        assert not is_over()
        may_go_on.set()
        thread.join(10.0)
        assert is_over()
        done.append(moved()[0] - before)

    bench.storage_thread._jobs.put(may_go_on.wait)
    with monkeypatch.context() as patch:
        patch.setattr(storage_thread_module.last_writes, "wait_for", waits)  # type: ignore[attr-defined]
        bench.storage_thread.close()
    assert done == [3], "what it was at, the journal, the lease"


def test_storage_thread_commit_that_fails_comes_back_as_a_failed_save(bench: Bench) -> None:
    bench.storage_thread.take_over(1, 3)
    written = bench.written(5)
    bench.output.child("a0001-g0001", "model.ckpt-5.index").delete()
    bench.storage_thread.commit(written, 2)
    failed = bench.next()
    assert isinstance(failed, ev.SaveFailed)
    assert "model.ckpt-5.index" in failed.detail


def test_storage_thread_commit_that_meets_an_error_of_its_own_counts_as_a_failed_save(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.storage_thread.take_over(1, 3)

    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(storage_thread_module, "commit", broken)
        bench.storage_thread.commit(bench.written(5), 2)
        assert bench.next() == ev.SaveFailed(1, 5, "KeyError: 'a bug'")
    bench.storage_thread.flush()
    bench.storage_thread.close()
    assert not list_checkpoints(bench.output), "it isn't in doubt: the rules count it as failed"


def test_save_whose_manifest_cannot_be_made_counts_as_failed(bench: Bench) -> None:
    """Nothing was told of it, and the rules waited for an answer."""
    part = SavedPart(0, 5, 10, 8, None, (), over=7)
    bench.storage_thread.commit(replace(bench.written(5), part=part), 2)
    failed = bench.next()
    assert isinstance(failed, ev.SaveFailed)
    assert "since save 7, which was never committed" in failed.detail


def test_storage_thread_search_that_meets_an_error_of_its_own_is_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(restorable, "newest_state", broken)
    bench.storage_thread.find("nobody has the state", {})
    assert bench.next() == ev.Found(None, detail="KeyError: 'a bug'")
    (told,) = caplog.records
    assert told.getMessage() == "an error of our own at the output"
    assert told.exc_info is not None, "with its traceback"
    assert told.exc_info[0] is KeyError


def test_storage_thread_whose_lease_is_lost_says_so_and_commits_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.storage_thread.take_over(1, 3)
    written = bench.written(5)

    def lost(*args: Any, **kwargs: Any) -> None:
        raise LeaseLost("attempt 2 has taken over")

    monkeypatch.setattr(storage_thread_module, "commit", lost)
    bench.storage_thread.commit(written, 2)
    fenced = bench.next()
    assert isinstance(fenced, ev.Fenced)
    assert fenced.error["kind"] == "LeaseLost"


def test_storage_thread_without_any_checkpoint_left_tells_that_there_is_none(bench: Bench) -> None:
    bench.storage_thread.find("nobody has the state", {})
    found = bench.next()
    assert isinstance(found, ev.Found)
    assert found.step is None
    assert found.detail


def test_storage_thread_search_that_the_store_does_not_answer_may_be_repeated(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage used to read "no good checkpoint is left", and ended the run."""

    def down(*args: Any, **kwargs: Any) -> None:
        raise StorageUnavailable("s3://b: 503")

    monkeypatch.setattr(restorable, "newest_state", down)
    bench.storage_thread.find("nobody has the state", {})
    found = bench.next()
    assert found.passing
    assert found.error["kind"] == "StorageUnavailable"


def test_storage_thread_search_leaves_out_what_turned_out_bad(bench: Bench) -> None:
    write_checkpoint(bench.scratch / "src", "m-5", model(5))
    bench.storage_thread._config = parse_config(
        {"source": str(bench.scratch / "src" / "m-5"), "output": bench.output.url, "until_step": 9}
    )
    bench.storage_thread.find("nobody has the state", {})
    assert isinstance(bench.next(), Restorable)
    found = bench.next()
    assert (found.step, found.label, found.detail) == (5, "m-5", "nobody has the state")
    bench.storage_thread.find("nobody has the state", {"m-5": "w: checksum"})
    found = bench.next()
    assert found.step is None
    assert "w: checksum" in found.detail


def leases_of(patch: pytest.MonkeyPatch, name: str) -> list[Lease | None]:
    """The leases with which the storage thread calls a writer of the store."""
    real = vars(storage_thread_module)[name]
    seen: list[Lease | None] = []

    def told(*args: Any, lease: Lease | None = None) -> Any:
        seen.append(lease)
        return real(*args, lease=lease)

    patch.setattr(storage_thread_module, name, told)
    return seen


def test_commit_that_comes_after_the_search_takes_neither_pointer_nor_checkpoint_from_the_next_group(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ranks had written their rows; one died while the driver was told so, and the others go back
    to the checkpoint that was found before the commit's turn came.
    """
    bench.storage_thread._config = bench.storage_thread._config.model_copy(
        update={"max_to_keep": 1}
    )
    bench.storage_thread.take_over(1, 0)
    saved(bench.output, 100)
    bench.storage_thread.find("no living worker has some rows", {})
    assert isinstance(bench.next(), Restorable)
    assert bench.next().step == 100
    late = uploaded(bench.output, 200).files
    bench.storage_thread.commit(
        ev.SaveWritten("w", 1, 200, 400, "a0001-g0001", "model.ckpt-200", late, {}), 2
    )
    assert isinstance(bench.next(), Remark)
    assert bench.next() == ev.Committed(1, 200, 400)
    pointed, committed = leases_of(monkeypatch, "set_pointer"), leases_of(monkeypatch, "commit")
    bench.storage_thread.take_over(2, 100)
    bench.storage_thread.find("to know that the queue has been worked off", {})
    assert isinstance(bench.next(), Restorable)
    (left,) = list_checkpoints(bench.output)
    assert left.step == 100
    assert read_pointer(bench.output) == left.label

    bench.storage_thread.take_over(3, 100)
    for step in (300, 400):
        bench.storage_thread.commit(bench.written(step, generation=3), 2)
    bench.storage_thread.close()
    assert pointed == [bench.lease], "once; from then on a commit does it"
    assert committed == [bench.lease, bench.lease]


def test_storage_thread_search_that_comes_back_to_the_source_reads_it_as_the_first_start_did(
    bench: Bench,
) -> None:
    """It gave the source's step, to be read as if it were a checkpoint of the run's own."""
    write_checkpoint(bench.scratch / "src", "m-5", model(5))
    thread = bench.storage_thread
    thread._config = parse_config(
        {"source": str(bench.scratch / "src" / "m-5"), "output": bench.output.url, "until_step": 9}
    )
    thread._saved = replace(thread._saved, loading=Loading(step=0))
    thread.find("nobody has the state", {})
    found = bench.next()
    assert (found.files.step, found.files.of_source) == (0, True)
    assert bench.next().step == 0
    thread._saved = replace(thread._saved, loading=None)
    thread.find("nobody has the state", {})
    refused = bench.next()
    assert refused.step is None
    assert "its first start took" in refused.detail


def test_how_the_source_was_read_is_not_known_any_more_where_a_later_start_left_the_flags_alone() -> (
    None
):
    asked = parse_config({"source": "s", "until_step": 9, "reset_step": 0}).model_dump(mode="json")
    plain = parse_config({"source": "s", "until_step": 9}).model_dump(mode="json")
    assert source_loading(AS_SAVED, asked) is None
    assert source_loading(Loading(step=0), asked) == Loading(step=0)
    assert source_loading(AS_SAVED, plain) == AS_SAVED
    assert source_loading(AS_SAVED, {}) == AS_SAVED  # a record of an earlier version


def test_storage_thread_writes_what_the_next_driver_needs_at_once(bench: Bench) -> None:
    bench.storage_thread.note(parse({"event": "progress", "at": 1.0}))
    bench.storage_thread.note(parse({"event": "worker_lost", "at": 2.0, "cause": "died"}))
    bench.storage_thread.take_over(1, 3)
    bench.storage_thread.find("to know that the queue has been worked off", {})
    bench.next()
    assert [event["event"] for event in read_journal(bench.output)] == ["progress", "worker_lost"]


def test_storage_thread_search_reads_every_byte_of_what_it_names(bench: Bench) -> None:
    """A quick look at a large checkpoint passes over most of its bytes; workers that met them later
    would have to give it back.
    """
    for step in (1, 2):
        write_checkpoint(bench.scratch / "src", f"m-{step}", model(step, rows=300_000))
    bench.storage_thread._config = parse_config(
        {"source": str(bench.scratch / "src"), "output": bench.output.url, "until_step": 9}
    )
    flip(bench.scratch / "src" / "m-2.data-00000-of-00001", 3_000_000)
    bench.storage_thread.find("nobody has the state", {})
    assert isinstance(bench.next(), Restorable)
    assert bench.next().step == 1


def test_storage_thread_search_reads_every_byte_in_the_output_too(bench: Bench) -> None:
    record_takeover(bench.output, 1, 1, 0)
    for step in (1, 2):
        files = write_checkpoint(
            bench.scratch / "ours", f"model.ckpt-{step}", model(step, rows=300_000)
        )
        records = upload(files, bench.output.child("a0001-g0001"))
        manifest = Manifest(name="model.ckpt", step=step, attempt=1, generation=1, files=records)
        commit(bench.output, manifest)
    flip(bench.scratch / "out" / "a0001-g0001" / "model.ckpt-2.data-00000-of-00001", 3_000_000)
    bench.storage_thread.find("nobody has the state", {})
    assert isinstance(bench.next(), Restorable)
    assert bench.next().step == 1


def test_storage_thread_counts_the_training_of_earlier_attempts(tmp_path: Path) -> None:
    """``keep_every_hours`` goes by it: a run that was restarted each hour kept nothing for good."""
    bench = Bench(tmp_path, trained_s=5000.0)
    try:
        bench.storage_thread.take_over(1, 3)
        bench.storage_thread.commit(bench.written(5), 2)
        bench.next()
        assert bench.next() == ev.Committed(1, 5, 10)
        assert list_checkpoints(bench.output)[0].manifest().training_s >= 5000.0
    finally:
        bench.storage_thread.close()


def failing(
    patch: pytest.MonkeyPatch, part: str, times: int, module: Any = commits
) -> list[StorageUnavailable]:
    """A part of each commit, or of another module, that the store refuses so many times; the errors
    that are still to come.
    """
    real: Any = vars(module)[part]
    failures = [StorageUnavailable("503") for _ in range(times)]

    def sometimes(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args)

    patch.setattr(module, part, sometimes)
    return failures


def test_storage_thread_commit_without_an_answer_is_known_at_the_next_flush(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest stood there and the pointer didn't: no other save of that step could be written
    then, and a run whose last step it was failed after five tries, its state being saved.
    """
    failures = failing(monkeypatch, "set_pointer", 2)
    committed = leases_of(monkeypatch, "commit")
    bench.storage_thread.take_over(1, 3)
    bench.storage_thread.commit(bench.written(5), 2)
    assert isinstance(bench.next(), ev.SaveFailed)
    bench.storage_thread.flush()  # the store is still away
    bench.storage_thread.flush()
    assert isinstance(bench.next(), Remark)
    assert bench.next() == ev.Committed(1, 5, 10)
    assert read_pointer(bench.output) == "a0001-g0001/model.ckpt-5"
    assert not failures
    assert committed == [bench.lease] * 3, "by the holder each time"


def test_storage_thread_makes_up_for_a_commit_that_the_store_was_away_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it was sent, but all that it needs is there: no worker has to save again."""
    bench.storage_thread.take_over(1, 3)
    real, failures = bench.storage_thread._record, [StorageUnavailable("503")]

    def sometimes() -> None:
        if failures:
            raise failures.pop()
        real()

    bench.storage_thread.find("to know that the queue has been worked off", {})
    assert isinstance(bench.next(), ev.Found)
    monkeypatch.setattr(bench.storage_thread, "_record", sometimes)
    bench.storage_thread.commit(bench.written(5), 2)
    assert bench.next() == ev.SaveFailed(1, 5, "503")
    bench.storage_thread.flush()
    bench.next()
    assert bench.next() == ev.Committed(1, 5, 10)


def test_storage_thread_records_a_take_over_that_failed_before_it_settles_a_commit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was refused until the next save: a run whose last one it was had to write that anew."""
    failures = failing(monkeypatch, "record_takeover", 2, storage_thread_module)
    bench.storage_thread.take_over(1, 3)
    bench.storage_thread.commit(bench.written(5), 2)
    assert bench.next() == ev.SaveFailed(1, 5, "503")
    assert not failures
    bench.storage_thread.flush()
    bench.next()
    assert bench.next() == ev.Committed(1, 5, 10)


def test_storage_thread_of_a_driver_that_may_have_been_followed_leaves_a_commit_in_doubt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until a heartbeat of its own has reached the store again."""
    failing(monkeypatch, "create_once", 1)
    bench.storage_thread.take_over(1, 3)
    bench.storage_thread.commit(bench.written(5), 2)
    assert isinstance(bench.next(), ev.SaveFailed)
    now = bench.lease.now
    monkeypatch.setattr(bench.lease, "now", lambda: now() + 2 * bench.lease.holder.lease_s)
    assert not bench.lease.is_fresh
    bench.storage_thread.flush()
    bench.storage_thread.find("to know that the queue has been worked off", {})
    assert isinstance(bench.next(), ev.Found)
    assert not list_checkpoints(bench.output)


def test_storage_thread_forgets_a_commit_in_doubt_when_the_group_goes_on_from_elsewhere(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed later it would be fenced, and this driver take another for its successor."""
    bench.storage_thread.take_over(1, 3)
    failing(monkeypatch, "create_once", 1)
    bench.storage_thread.commit(bench.written(5), 2)
    assert isinstance(bench.next(), ev.SaveFailed)
    bench.storage_thread.take_over(2, 4)
    bench.storage_thread.flush()
    bench.storage_thread.commit(bench.written(6, generation=2), 2)
    told = bench.next()
    assert isinstance(told, Remark), told
    assert bench.next() == ev.Committed(2, 6, 12)


@pytest.mark.parametrize(
    ("parent", "told"),
    [
        pytest.param((1, 1), 200, id="it starts from the checkpoint"),
        pytest.param(None, 100, id="it adopts, and the journal knows the older one alone"),
    ],
)
def test_driver_whose_predecessor_died_between_a_commit_and_the_pointer_sets_it_right(
    parent: tuple[int, int] | None, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did so with its next commit alone, and a run that was stopped before has none."""
    output = open_location(str(tmp_path / "out"))
    record_takeover(output, 1, 1, 0)
    saved(output, 100)
    saved(output, 200)
    write_pointer(output, "a0001-g0001/model.ckpt-100", ["a0001-g0001/model.ckpt-100"])
    pointed = leases_of(monkeypatch, "set_pointer")
    bench = Bench(tmp_path, label=f"a0001-g0001/model.ckpt-{told}", parent=parent)
    bench.storage_thread.take_over(2, 200)
    bench.storage_thread.commit(bench.written(300, generation=2), 2)
    bench.storage_thread.close()
    assert pointed == [bench.lease]
    newest, before, _ = list_checkpoints(output)
    assert newest.manifest().parent == before.label == "a0001-g0001/model.ckpt-200"


def test_pointer_that_a_predecessor_left_behind_is_right_before_any_commit(tmp_path: Path) -> None:
    output = open_location(str(tmp_path / "out"))
    record_takeover(output, 1, 1, 0)
    saved(output, 100)
    saved(output, 200)
    write_pointer(output, "a0001-g0001/model.ckpt-100", ["a0001-g0001/model.ckpt-100"])
    bench = Bench(tmp_path, label="a0001-g0001/model.ckpt-200", parent=(1, 1))
    bench.storage_thread.close()
    assert read_pointer(output) == "a0001-g0001/model.ckpt-200"


def of_state(bench: Bench, step: int) -> ev.SaveWritten:
    """A save whose files are good, so that older ones needn't be kept."""
    files = uploaded(bench.output, step).files
    about = ("w", 1, step, 2 * step, "a0001-g0001", f"model.ckpt-{step}")
    return ev.SaveWritten(*about, files, {})


@pytest.mark.parametrize("adopts", [True, False])
def test_driver_deletes_what_need_not_be_kept_and_nothing_that_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, adopts: bool
) -> None:
    if adopts:
        record_takeover(open_location(str(tmp_path / "out")), 1, 1, 0)
    bench = Bench(tmp_path, parent=None if adopts else (0, 0))
    thread = bench.storage_thread
    if not adopts:
        thread.take_over(1, 0)
    thread._config = thread._config.model_copy(update={"max_to_keep": 1})
    evaluator = Evaluations(bench.output, "eval")
    acquire(evaluator.place)
    with caplog.at_level(logging.DEBUG, "tfresume"):
        thread.flush()
        for step in (5, 6, 7):
            thread.commit(of_state(bench, step), 2)
            assert isinstance(bench.next(), Remark)
            assert bench.next() == ev.Committed(1, step, 2 * step)
            if step == 5:
                evaluator.hold("a0001-g0001/model.ckpt-5")
            thread.flush()
        thread.close()
    assert [item.step for item in list_checkpoints(bench.output)] == [7, 5]
    assert read_pointer(bench.output) == "a0001-g0001/model.ckpt-7"
    (told,) = caplog.records
    assert told.levelno == logging.DEBUG, "it's no news, but who looks for a checkpoint finds it"
    gone = "checkpoints that needn't be kept are deleted: a0001-g0001/model.ckpt-6"
    assert told.getMessage() == gone


def test_storage_thread_asks_what_need_not_be_kept_as_the_holder_of_the_lease(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing goes while the store doesn't list what was committed just now."""
    asked: list[dict[str, Any]] = []

    def keeps_all(_: Location, **how: Any) -> Retained:
        asked.append(how)
        return Retained((), ())

    monkeypatch.setattr(storage_thread_module, "retain", keeps_all)
    bench.storage_thread.take_over(1, 3)
    bench.storage_thread.commit(bench.written(5), 2)
    bench.storage_thread.close()
    (how,) = asked
    assert how["lease"] is bench.lease
    assert how["protect"] == ("a0001-g0001/model.ckpt-5",)


def test_save_names_the_checkpoint_from_which_its_generation_went_on(tmp_path: Path) -> None:
    output = open_location(str(tmp_path / "out"))
    record_takeover(output, 1, 1, 0)
    before = saved(output, 4)
    bench = Bench(tmp_path, label=before.label, parent=(1, 1))
    bench.storage_thread.take_over(2, 4)
    for step in (5, 6):
        bench.storage_thread.commit(bench.written(step, generation=2), 3)
    bench.storage_thread.close()
    newest, first, *_ = (item.manifest() for item in list_checkpoints(output))
    assert (first.parent, newest.parent) == (before.label, first.label)
    assert first.world_size == 3


def test_storage_thread_keeps_a_snapshot_of_what_the_journal_says_where_parts_are_merged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.run.journal.MERGE", 2)
    for step in (1, 2):
        event = {"event": "incident", "at": float(step), "step": step, "kind": "worker"}
        bench.storage_thread.note(parse(event))
        bench.storage_thread.flush()
    bench.storage_thread.close()
    names = {entry.name for entry in bench.output.child("_tfresume", "journal").list()}
    assert names == {"a0001-000001-000002.jsonl", "a0001-000002.snapshot.json"}
    assert read_folds(bench.output, KINDS).parts == 0, "the snapshot stands for all of it"


def test_generations_go_on_from_one_another_in_the_lineage(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    thread = bench.storage_thread

    def told() -> tuple[Any, list[tuple[int, int]]]:
        thread.find("nobody has the state", {})
        thread.flush()
        while not isinstance(found := bench.next(), ev.Found):
            pass
        return found, [(link.generation, link.step) for link in read_lineage(bench.output).chain]

    thread.take_over(1, 0)
    assert told()[1] == [(1, 0)]
    before = saved(bench.output, 100, position=250)
    thread.take_over(2, 130)
    found, chain = told()
    assert chain == [(1, 0), (2, 130)], "from memory; the search found the checkpoint after that"
    assert found == ev.Found(100, 250, "nobody has the state", before.label)
    thread.take_over(3, 100)
    assert told()[1] == [(1, 0), (3, 100)]
    thread.commit(bench.written(110, generation=3), 2)
    thread.close()
    assert list_checkpoints(bench.output)[0].manifest().parent == before.label
    assert not caplog.records


def test_generation_that_begins_at_the_source_again_stands_on_no_checkpoint(bench: Bench) -> None:
    """Its saves named the one that had turned out bad as the one that they came from."""
    for step in (4, 5, 6):
        write_checkpoint(bench.scratch / "src", f"m-{step}", model(step))
    thread = bench.storage_thread
    thread._config = parse_config(
        {"source": str(bench.scratch / "src"), "output": bench.output.url, "until_step": 9}
    )
    thread.take_over(1, 4)
    thread.commit(of_state(bench, 8), 2)
    assert [type(bench.next()) for _ in range(2)] == [Remark, ev.Committed]
    bad = {"a0001-g0001/model.ckpt-8": "w: checksum", "m-6": "w: a NaN", "m-5": "w: cut off"}
    thread.find("a worker can't read it", bad)
    assert isinstance(bench.next(), Restorable)
    assert bench.next() == ev.Found(4, 0, "m-6: w: a NaN; m-5: w: cut off", "m-4")
    thread.take_over(2, 4)
    thread.commit(bench.written(7, generation=2), 2)
    thread.close()
    (newest,) = list_checkpoints(bench.output)
    assert newest.manifest().parent is None
    assert [link.generation for link in read_lineage(bench.output).chain] == [2]


def test_commit_of_changed_rows_says_so_and_names_what_they_stand_on(bench: Bench) -> None:
    """The rules count them, and order a full save in time."""
    thread = bench.storage_thread
    thread.take_over(1, 3)
    parts = [SavedPart(0, 5, 10, 1, None, ()), SavedPart(0, 6, 12, 2, None, (), over=1)]
    thread.commit(replace(bench.written(5), part=parts[0]), 2)
    bench.next()
    assert bench.next() == ev.Committed(1, 5, 10, changes=False)
    file = bench.scratch / "model.ckpt-6.changed.index"
    file.write_bytes(b"bytes")
    records = upload([file], bench.output.child("a0001-g0001"))
    rows = replace(bench.written(6), prefix="model.ckpt-6.changed", files=records, part=parts[1])
    thread.commit(rows, 2)
    bench.next()
    assert bench.next() == ev.Committed(1, 6, 12, changes=True)
