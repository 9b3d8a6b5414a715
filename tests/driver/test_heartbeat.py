"""Does an output that can't be written to for longer than a lease pause the commits, and no more?"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.decide import events as ev
from orchestrator.driver.heartbeat import AWAY, BACK, STOP_GRACE_S, STOP_HOLDS_S, Heartbeat
from orchestrator.driver.inbox import Remark
from orchestrator.driver.save_manifests import Saved
from orchestrator.driver.storage_thread import StorageThread
from orchestrator.errors import LeaseLost, OrchestratorError, StorageUnavailable
from orchestrator.journal.run_events import Warned
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.lease import Lease, acquire
from orchestrator.store.run.run_record import (
    StopRequest,
    answer_stop_request,
    read_stop_requests,
    request_stop,
)
from orchestrator.store.transfer.upload import upload
from orchestrator.workers.scheduling import Threads

LEASE_S = 0.6
"""Short, so that it beats often. How old a beat is, the lease judges by a clock that stands
still unless a test moves it.
"""


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """For requests to stop: a test waits for several of them."""
    monkeypatch.setattr("orchestrator.driver.heartbeat.STOP_POLL_S", 0.02)


class Beating:
    """A driver's heartbeat and storage thread over a directory that can be taken away."""

    def __init__(self, directory: Path) -> None:
        self.scratch = directory
        self.output: Location = open_location(str(directory / "out"))
        self.now_s = 0.0
        self.lease: Lease = acquire(self.output, lease_s=LEASE_S, now=lambda: self.now_s)
        self.told: queue.Queue[Any] = queue.Queue()
        config = parse_config(
            {"source": str(directory / "none"), "output": self.output.url, "until_step": 9}
        )
        self.storage_thread = StorageThread(
            self.output,
            self.lease,
            config,
            Saved("f", None, ()),
            (0, 0),
            None,
            0.0,
            self.told.put,
        )
        self.heartbeat = Heartbeat(self.output, self.lease, self.storage_thread, self.told.put)

    def take_away(self) -> None:
        """For longer than a lease a file stands where the leases were: nothing can be read or
        written below it.
        """
        leases = self.scratch / "out" / "_tfresume" / "lease"
        leases.rename(self.scratch / "leases")
        leases.write_text("")
        self.now_s += 2 * LEASE_S

    def give_back(self) -> None:
        leases = self.scratch / "out" / "_tfresume" / "lease"
        leases.unlink()
        (self.scratch / "leases").rename(leases)

    def wait_for(self, holds: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            message = self.told.get(timeout=20)
            assert not isinstance(message, ev.Fenced), "nobody has taken over"
            if holds(message):
                return message
        raise AssertionError("it wasn't told")

    def commit(self, step: int) -> None:
        file = self.scratch / f"m-{step}.index"
        file.write_bytes(b"bytes")
        records = upload([file], self.output.child("a0001-g0001"))
        self.storage_thread.commit(
            ev.SaveWritten("w", 1, step, 0, "a0001-g0001", f"m-{step}", records, {}), 1
        )


@pytest.fixture
def beating(tmp_path: Path) -> Iterator[Beating]:
    made = Beating(tmp_path)
    yield made
    made.heartbeat.close()
    made.storage_thread.close()


def warning(text: str) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, Remark) and message.event == Warned(reason=text)


def test_heart_output_that_cannot_be_written_for_a_lease_pauses_commits_and_goes_on(
    beating: Beating,
) -> None:
    beating.storage_thread.take_over(1, 3)
    beating.take_away()
    beating.wait_for(warning(AWAY))
    assert not beating.lease.is_fresh
    beating.commit(5)
    beating.wait_for(lambda message: isinstance(message, ev.SaveFailed) and message.step == 5)
    beating.give_back()
    beating.wait_for(warning(BACK))
    assert beating.lease.is_fresh
    beating.commit(6)
    beating.wait_for(lambda message: message == ev.Committed(1, 6))


def test_heart_that_finds_a_successor_after_an_outage_says_that_the_run_is_lost(
    beating: Beating,
) -> None:
    beating.take_away()
    beating.wait_for(warning(AWAY))
    leases = beating.scratch / "leases"
    holder = json.loads((leases / "0001.json").read_text())
    (leases / "0002.json").write_text(json.dumps({**holder, "attempt": 2, "writer": "another"}))
    beating.give_back()
    deadline = time.monotonic() + 20
    while not isinstance(message := beating.told.get(timeout=20), ev.Fenced):
        assert time.monotonic() < deadline
    assert "attempt 2" in message.error["message"]


def test_storage_thread_with_a_stale_lease_looks_for_a_successor_before_it_commits(
    tmp_path: Path,
) -> None:
    """As after a pause of the whole process: no heartbeat was written yet."""
    now = [0.0]
    output = open_location(str(tmp_path / "out"))
    lease = acquire(output, now=lambda: now[0])
    told: queue.Queue[Any] = queue.Queue()
    config = parse_config({"source": str(tmp_path / "none"), "output": output.url, "until_step": 9})
    storage_thread = StorageThread(
        output, lease, config, Saved("f", None, ()), (0, 0), None, 0.0, told.put
    )
    storage_thread.take_over(1, 3)
    now[0] = 1000.0
    assert not lease.is_fresh
    file = tmp_path / "m-5.index"
    file.write_bytes(b"bytes")
    records = upload([file], output.child("a0001-g0001"))
    storage_thread.commit(ev.SaveWritten("w", 1, 5, 0, "a0001-g0001", "m-5", records, {}), 1)
    storage_thread.close()
    assert lease.is_fresh, "it has looked, and beaten"
    assert isinstance(told.get(timeout=60), Remark)
    assert told.get(timeout=60) == ev.Committed(1, 5)


def stop_asked(beating: Beating) -> ev.StopAsked:
    message = beating.wait_for(lambda message: isinstance(message, ev.StopAsked))
    assert isinstance(message, ev.StopAsked)
    return message


def test_heart_sees_a_stop_without_a_save_that_comes_after_one_with_it(beating: Beating) -> None:
    request_stop(beating.output, attempt=1)
    assert stop_asked(beating).grace_s == STOP_GRACE_S
    request_stop(beating.output, mode="now", attempt=1)
    assert stop_asked(beating).grace_s == 0


def test_heart_follows_what_the_driver_was_asked_that_died_before_it(tmp_path: Path) -> None:
    beating = Beating(tmp_path)
    beating.heartbeat.close()
    beating.storage_thread.close()  # gives the lease up: the next holder is attempt 2
    request_stop(beating.output, attempt=1)
    successor = Beating(tmp_path)
    assert successor.lease.attempt == 2
    assert stop_asked(successor).cause is ev.StopCause.REQUEST
    successor.heartbeat.close()
    successor.storage_thread.close()
    assert read_stop_requests(successor.output) == ()


def test_heart_does_not_follow_what_an_earlier_driver_was_asked_long_ago_and_takes_it_away(
    tmp_path: Path,
) -> None:
    beating = Beating(tmp_path)
    beating.heartbeat.close()
    beating.storage_thread.close()
    request = request_stop(beating.output, attempt=1)
    old = request.model_copy(update={"at": request.at - STOP_HOLDS_S - 60, "request_id": "old"})
    answer_stop_request(beating.output, request)
    create_once(
        beating.output.child("_tfresume", "stop", "old.json"), old.model_dump_json().encode()
    )
    successor = Beating(tmp_path)
    deadline = time.monotonic() + 20
    while not successor.heartbeat.requests:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    successor.heartbeat.close()
    successor.storage_thread.close()
    told = [successor.told.get() for _ in range(successor.told.qsize())]
    assert [message for message in told if isinstance(message, ev.StopAsked)] == []
    assert read_stop_requests(successor.output) == ()


class Played(Threads):
    """Threads that are never started; a flag that plays what happens during each wait for it."""

    def __init__(self, *meanwhile: Callable[[], None]) -> None:
        self.meanwhile, self.waited_s = list(meanwhile), list[float]()

    def start(self, work: Callable[[], None], name: str) -> Any:
        return SimpleNamespace(join=lambda timeout_s: None)

    def flag(self) -> Any:
        return self

    def set(self) -> None:
        """Nobody waits any more."""

    def wait(self, timeout_s: float) -> bool:
        self.waited_s.append(timeout_s)
        if not self.meanwhile:
            return True
        self.meanwhile.pop(0)()
        return False


class HeldLease:
    """A lease whose next beats end as a test says."""

    attempt, beat_every_s, is_fresh = 3, 7.0, True

    def __init__(self, calls: list[str]) -> None:
        self.calls, self.fails = calls, list[OrchestratorError | None]()

    def heartbeat(self) -> None:
        self.calls.append("beat")
        if self.fails and (error := self.fails.pop(0)) is not None:
            raise error


def test_heart_that_beats_tells_nothing_and_writes_what_was_noted_before_each_beat(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []
    told: list[Any] = []
    lease: Any = HeldLease(calls)
    storage: Any = SimpleNamespace(flush=lambda: calls.append("flush"))
    output = open_location(str(tmp_path))
    plays = Played(lambda: None, lambda: None)
    heart = Heartbeat(output, lease, storage, told.append, plays)
    heart._beat()
    assert calls == ["flush", "beat"] * 2
    assert plays.waited_s == [lease.beat_every_s] * 3
    assert not told
    assert not caplog.records
    plays.meanwhile = [
        lambda fresh=fresh: setattr(lease, "is_fresh", fresh)  # type: ignore[misc]
        for fresh in (True, False, False, True, True)
    ]
    heart._beat()
    assert told == [Remark(Warned(reason=AWAY)), Remark(Warned(reason=BACK))], "once each"
    told.clear()
    calls[:] = ["flush", "beat"] * 2
    plays.meanwhile = [lambda: None, lambda: None, lambda: None]
    lease.fails = [StorageUnavailable("503"), LeaseLost("attempt 4 has it")]
    heart._beat()
    assert calls == ["flush", "beat"] * 4, "whoever has lost the lease beats no more"
    assert [record.getMessage() for record in caplog.records] == ["heartbeat: 503"]
    assert told == [ev.Fenced(LeaseLost("attempt 4 has it").as_dict())]


def asked(**about: Any) -> StopRequest:
    return StopRequest(**{"attempt": 3, "at": 0.0, **about})


def test_heart_follows_what_concerns_it_and_tells_each_wish_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    lease: Any = HeldLease([])
    answers: list[Any] = []

    def read(_: Location) -> tuple[StopRequest, ...]:
        answer = answers.pop(0)
        if isinstance(answer, OrchestratorError):
            raise answer
        return tuple(answer)

    def told_of(*given: Any) -> list[Any]:
        told.clear()
        answers[:] = given
        plays.meanwhile = [lambda: None] * len(given)
        heart._listen()
        return list(told)

    monkeypatch.setattr("orchestrator.driver.heartbeat.read_stop_requests", read)
    plays = Played()
    monkeypatch.setattr(plays, "unix", lambda: STOP_HOLDS_S + 5.0)
    heart = Heartbeat(open_location(str(tmp_path)), lease, Any, told.append, plays)  # type: ignore[arg-type]
    save = ev.StopAsked(ev.StopCause.REQUEST, STOP_GRACE_S)
    now = ev.StopAsked(ev.StopCause.REQUEST, 0.0)

    away = StorageUnavailable("503")
    assert told_of((), away, (asked(),), away, (asked(),)) == [save]
    assert heart.requests == (asked(request_id=heart.requests[0].request_id),)
    assert told_of((asked(mode="now"), asked()), (asked(),)) == [now]
    assert answers == [(asked(request_id=answers[0][0].request_id),)], "no more is read after it"
    assert told_of((asked(),), (asked(mode="now"),)) == [save, now]
    assert told_of((asked(attempt=0),)) == [save], "whoever holds the run"
    assert told_of((asked(attempt=4),)) == [], "somebody who comes later"
    assert told_of((asked(attempt=2, at=5.5),)) == [save], "it died before it could"
    assert told_of((asked(attempt=2, at=5.0),)) == [], "too long ago"
    assert told_of((asked(attempt=0, at=-1e9),), ()) == [save]
    assert set(plays.waited_s) == {0.02}


def test_heart_at_its_end_takes_away_what_it_was_asked_as_far_as_the_store_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[str] = []

    def answer(_: Location, request: StopRequest) -> None:
        taken.append(request.request_id)
        if len(taken) == 1:
            raise StorageUnavailable("503")

    monkeypatch.setattr("orchestrator.driver.heartbeat.answer_stop_request", answer)
    lease: Any = HeldLease([])
    heart = Heartbeat(open_location(str(tmp_path)), lease, Any, lambda _: None, Played())  # type: ignore[arg-type]
    heart.requests = (asked(request_id="one"), asked(request_id="two"))
    heart.close()
    assert taken == ["one", "two"]
    assert [record.getMessage() for record in caplog.records] == [
        "a stop request stays in the output: 503"
    ]
