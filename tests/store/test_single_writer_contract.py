"""One writer at a time, on every store: leases, journal, run record, requests to stop."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from orchestrator.errors import LeaseLost, OrchestratorError, OutputError
from orchestrator.store.checkpoints.newest_good import newest_good
from orchestrator.store.objects.location import Location
from orchestrator.store.run import lease as lease_room
from orchestrator.store.run.journal import (
    BUFFERED_EVENTS,
    MERGE,
    Journal,
    read_journal,
    read_journal_tail,
)
from orchestrator.store.run.lease import Lease, Observed, acquire, observe
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.run.run_record import (
    RunRecord,
    answer_stop_request,
    create_run_record,
    read_run_record,
    read_stop_requests,
    request_stop,
)
from tests.fakes.clocks import FakeClock
from tests.store.runs import saved, uploaded

pytestmark = pytest.mark.turns(3)


def take(store: Location, clock: FakeClock, name: str = "driver") -> Lease:
    return acquire(store, name, lease_s=30.0, now=clock.now, wait=clock.wait)


def test_lease_free_output_is_taken_without_waiting(store: Location) -> None:
    clock = FakeClock()
    lease = take(store, clock)
    assert (lease.attempt, clock.waits, lease.taken_from) == (1, 0, None)
    assert lease.is_fresh


def test_lease_held_by_a_living_driver_is_refused_with_its_name(store: Location) -> None:
    clock = FakeClock()
    first = take(store, clock, "first@host pid 7")
    clock.meanwhile = first.heartbeat
    with pytest.raises(OutputError, match="first@host pid 7") as caught:
        take(store, clock, "second")
    assert caught.value.details["expires_s"] == 30.0
    assert clock.now_s - 1000 < 30
    first.check()


def test_lease_silent_for_its_length_is_taken_over_and_the_first_is_lost(store: Location) -> None:
    clock = FakeClock()
    first = take(store, clock, "first")
    second = take(store, clock, "second")
    assert second.attempt == 2
    assert second.taken_from is not None
    assert second.taken_from.name == "first"
    assert clock.now_s - 1000 >= 30
    assert not first.is_fresh
    with pytest.raises(LeaseLost, match="second"):
        first.heartbeat()
    with pytest.raises(LeaseLost):
        first.check()
    second.check()


def test_lease_released_is_taken_at_once(store: Location) -> None:
    clock = FakeClock()
    first = take(store, clock)
    first.release()
    first.release()
    assert take(store, clock).attempt == 2
    assert clock.waits == 0


def test_lease_raced_for_by_six_has_one_winner(store: Location) -> None:
    start = threading.Barrier(6)

    def race(number: int) -> Lease | None:
        clock = FakeClock()
        start.wait(10)
        try:
            # Losers see the winner's lease: they wait for a sign of life, and the clock that they
            # wait on stands still
            return acquire(
                store,
                f"driver {number}",
                now=lambda: 0.0,
                wait=lambda _: clock.wait(1) or _give_up(clock),  # type: ignore[func-returns-value]
            )
        except (OrchestratorError, TimeoutError):
            return None

    with ThreadPoolExecutor(6) as pool:
        leases = [lease for lease in pool.map(race, range(6)) if lease is not None]
    assert [lease.attempt for lease in leases] == [1]


def _give_up(clock: FakeClock) -> None:
    if clock.waits > 3:
        raise TimeoutError


def test_lease_on_a_store_that_ignores_the_condition_is_kept_by_one_of_two(
    store: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_room, "create_once", Location.write_bytes)
    clock = FakeClock()
    nobody = Observed(None, released=False, dead=False, beat=b"")
    # Both looked before either wrote, and the store let both create the same object
    first, second = (
        lease_room._take(store, nobody, name, 30.0, clock.now) for name in ("first", "second")
    )
    assert first.attempt == second.attempt == 1
    with pytest.raises(LeaseLost, match="second has taken attempt 1"):
        first.heartbeat()
    with pytest.raises(LeaseLost):
        first.check()
    assert not first.is_fresh
    first.release()
    second.heartbeat()
    second.check()
    assert not observe(store).released


def test_commit_by_a_driver_that_lost_its_lease_is_refused(store: Location) -> None:
    clock = FakeClock()
    first = take(store, clock)
    record_takeover(store, 1, 1, 0)
    saved(store, 100, lease=first)
    in_flight = uploaded(store, 200)
    second = take(store, clock)
    record_takeover(store, second.attempt, 1, 100, parent=(1, 1))
    from orchestrator.store.checkpoints.commits import commit

    with pytest.raises(LeaseLost):
        commit(store, in_flight, lease=first)
    newest = newest_good(store)
    assert newest.checkpoint is not None
    assert newest.checkpoint.step == 100
    saved(store, 110, attempt=2, lease=second)


def test_journal_events_come_back_in_order_over_attempts(store: Location) -> None:
    first = Journal(store, 1)
    first.append({"event": "start", "at": 1.0})
    first.append({"event": "saved", "at": 2.0, "step": 10}, durable=True)
    second = Journal(store, 2)
    for number in range(BUFFERED_EVENTS + 1):
        second.append({"event": "tick", "at": 3.0, "number": number})
    assert len(read_journal(store)) == 2 + BUFFERED_EVENTS  # the last one waits for company
    second.flush()
    events = read_journal(store)
    assert [event["event"] for event in events] == ["start", "saved"] + ["tick"] * (
        BUFFERED_EVENTS + 1
    )
    assert [event["attempt"] for event in events[:3]] == [1, 1, 2]
    assert [event["number"] for event in read_journal_tail(store, 3)] == [62, 63, 64]
    assert read_journal_tail(store, 1000) == events
    assert read_journal_tail(store, 0) == []


def test_journal_small_parts_are_merged_and_nothing_is_lost_or_doubled(store: Location) -> None:
    journal = Journal(store, 1)
    for number in range(MERGE + 5):
        journal.append({"event": "tick", "at": 1.0, "number": number}, durable=True)
    names = [entry.name for entry in store.child("_tfresume", "journal").list()]
    assert "a0001-000001-000064.jsonl" in names
    assert len(names) == 6
    assert [event["number"] for event in read_journal(store)] == list(range(MERGE + 5))
    assert [event["number"] for event in read_journal_tail(store, 7)] == list(
        range(MERGE - 2, MERGE + 5)
    )
    # A part that outlived its merging is ignored
    store.child("_tfresume", "journal", "a0001-000003.jsonl").write_bytes(b'{"event": "again"}\n')
    assert len(read_journal(store)) == MERGE + 5


def test_journal_values_that_json_lacks_become_text(store: Location) -> None:
    event = {
        "event": "progress",
        "at": 1.0,
        "loss": float("nan"),
        "step": np.int64(5),
        "worst": [np.float32("inf")],
    }
    Journal(store, 1).append(event, durable=True)
    (read,) = read_journal(store)
    assert (read["loss"], read["step"], read["worst"]) == ("nan", 5, ["inf"])


def test_journal_secret_is_masked(store: Location) -> None:
    Journal(store, 1).append(
        {"event": "start", "at": 1.0, "url": "s3://key:geheim1@host/x"}, durable=True
    )
    assert "geheim1" not in str(read_journal(store))


def test_journal_damaged_part_is_named(store: Location) -> None:
    Journal(store, 1).append({"event": "start", "at": 1.0}, durable=True)
    store.child("_tfresume", "journal", "a0001-000002.jsonl").write_bytes(b'{"event": "cut')
    with pytest.raises(OutputError, match=r"a0001-000002\.jsonl is damaged"):
        read_journal(store)


def test_run_record_first_start_counts_and_another_source_is_refused(store: Location) -> None:
    record = RunRecord(
        source="gs://a/model-5",
        fingerprint="aa-bb",
        name="model",
        started_step=5,
        config={"password": "geheim1"},
    )
    assert read_run_record(store) is None
    standing = create_run_record(store, record)
    assert (
        create_run_record(
            store, RunRecord(source="x", fingerprint="aa-bb", name="model", started_step=99)
        )
        == standing
    )
    assert read_run_record(store) == standing
    assert "geheim1" not in str(standing)
    with pytest.raises(OutputError, match=r"holds a run of gs://a/model-5, not of gs://b/other"):
        create_run_record(
            store, RunRecord(source="gs://b/other", fingerprint="cc", name="model", started_step=0)
        )
    with pytest.raises(
        OutputError, match=r"gs://a/model-5 as it was at step 5; it has changed since"
    ):
        create_run_record(
            store,
            RunRecord(source="gs://a/model-5", fingerprint="cc", name="model", started_step=9),
        )


def test_stop_request_is_seen_until_answered(store: Location) -> None:
    assert read_stop_requests(store) == ()
    first = request_stop(store, mode="now", asked_by="me")
    request_stop(store)
    assert {request.mode for request in read_stop_requests(store)} == {"now", "save"}
    answer_stop_request(store, first)
    assert [request.mode for request in read_stop_requests(store)] == ["save"]
