"""Does an output that can't be written to for longer than a lease pause the commits, and no more?"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.decide import events as ev
from orchestrator.driver.heartbeat import AWAY, BACK, STOP_GRACE_S, STOP_HOLDS_S, Heartbeat
from orchestrator.driver.inbox import Remark
from orchestrator.driver.save_manifests import Saved
from orchestrator.driver.storage_thread import StorageThread
from orchestrator.journal.run_events import Warned
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.lease import Lease, acquire
from orchestrator.store.run.run_record import answer_stop_request, read_stop_requests, request_stop
from orchestrator.store.transfer.upload import upload

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
