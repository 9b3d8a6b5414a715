"""Is whoever looks on from a thread of his own told everything in its order, and waited for no longer
than was said?
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.driver.measurements import Counted
from orchestrator.driver.observer import RunProgress
from orchestrator.driver.observer_thread import CLOSE_S, MOST_PROGRESS, ObserverThread

WITHIN_S = 20.0
"""It takes milliseconds; what never comes is waited for so long."""


def at(step: int) -> RunProgress:
    return RunProgress(step, 0.5, 20.0, None, 2, 2000)


class Onlooker:
    """Keeps what it's told; while ``gate`` is closed it takes in nothing."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.thread: threading.Thread | None = None
        self.entered, self.gate = threading.Semaphore(0), threading.Event()
        self.gate.set()

    def event(self, event: Mapping[str, Any]) -> None:
        self.thread = threading.current_thread()
        self.entered.release()
        self.gate.wait(WITHIN_S)
        self.seen.append(event["event"])

    def progress(self, progress: RunProgress) -> None:
        self.seen.append(progress.step)
        self.entered.release()


class Closing(Onlooker):
    """One that has to be told of the end, and fails where it's asked to."""

    fails: tuple[str, ...] = ()

    def event(self, event: Mapping[str, Any]) -> None:
        super().event(event)
        if "event" in self.fails:
            raise KeyError("no such key")

    def close(self) -> None:
        self.seen.append("closed")
        if "close" in self.fails:
            raise OSError("no route")


def test_each_note_is_taken_in_when_it_comes_and_the_thread_waits_for_the_next() -> None:
    onlooker = Onlooker()
    thread = ObserverThread(onlooker, "the callback mine")
    thread.past(Counted())  # it doesn't ask for that
    for number in range(3):
        thread.event({"event": number})
        assert onlooker.entered.acquire(timeout=WITHIN_S)
        thread.progress(at(number))
        assert onlooker.entered.acquire(timeout=WITHIN_S)
    thread.close(WITHIN_S)
    assert onlooker.seen == [0, 0, 1, 1, 2, 2]
    assert onlooker.thread is not None
    assert not onlooker.thread.is_alive()


def test_thread_keeps_no_process_alive_and_says_in_a_dump_whose_it_is() -> None:
    onlooker = Onlooker()
    before = threading.active_count()
    thread = ObserverThread(onlooker, "the callback mine")
    assert threading.active_count() == before  # there is none for a run that is refused
    thread.event({"event": 0})
    thread.close(WITHIN_S)
    assert onlooker.thread is not None
    assert (onlooker.thread.daemon, onlooker.thread.name) == (True, "tfresume: the callback mine")


def test_events_go_before_progress_of_which_the_newest_is_told() -> None:
    onlooker = Closing()
    onlooker.gate.clear()
    thread = ObserverThread(onlooker, "the callback mine")
    thread.event({"event": "first"})
    assert onlooker.entered.acquire(timeout=WITHIN_S)
    for step in range(MOST_PROGRESS + 5):
        thread.progress(at(step))
    thread.event({"event": "last"})
    onlooker.gate.set()
    thread.close(WITHIN_S)
    assert onlooker.seen == ["first", "last", *range(5, MOST_PROGRESS + 5), "closed"]


@pytest.mark.parametrize(
    ("own", "asked", "waits"),
    [({}, None, CLOSE_S), ({"close_s": 3.0}, None, 3.0), ({"close_s": 3.0}, 0.0, 0.0)],
)
def test_end_waits_as_long_as_was_said(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, float], asked: float | None, waits: float
) -> None:
    joined: list[float | None] = []
    monkeypatch.setattr(threading.Thread, "join", lambda _, wait_s=None: joined.append(wait_s))
    thread = ObserverThread(Onlooker(), "the callback mine", **own)
    thread.close(asked)
    assert joined == [waits]


def test_what_hangs_at_the_end_is_told_nothing_more_and_how_much_that_was_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    onlooker = Closing()
    onlooker.gate.clear()
    thread = ObserverThread(onlooker, "the callback mine")
    for number in range(3):
        thread.event({"event": number})
    assert onlooker.entered.acquire(timeout=WITHIN_S)
    thread.progress(at(9))
    with caplog.at_level(logging.WARNING, "tfresume"):
        thread.close(0.0)
    assert caplog.messages == [
        "the callback mine didn't end within 0 s; events that it wasn't told: 2"
    ]
    onlooker.gate.set()
    thread.close(WITHIN_S)
    assert onlooker.seen == [0, "closed"]


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ((), []),
        (("event",), ["is dropped since it failed: KeyError: 'no such key'"]),
        (("close",), ["couldn't be closed: OSError: no route"]),
        (
            ("event", "close"),
            [
                "is dropped since it failed: KeyError: 'no such key'",
                "couldn't be closed: OSError: no route",
            ],
        ),
    ],
)
def test_one_that_fails_is_dropped_and_closed_and_that_is_said(
    fails: tuple[str, ...], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    onlooker = Closing()
    onlooker.fails = fails
    onlooker.gate.clear()
    thread = ObserverThread(onlooker, "the callback mine")
    with caplog.at_level(logging.WARNING, "tfresume"):
        thread.event({"event": "first"})
        thread.event({"event": "then"})
        onlooker.gate.set()
        thread.close(WITHIN_S)
    assert onlooker.seen == ["first", *([] if "event" in fails else ["then"]), "closed"]
    assert caplog.messages == [f"the callback mine {each}" for each in said]


def test_incidents_of_earlier_drivers_are_told_to_who_asks_for_them() -> None:
    class Asking(Onlooker):
        def past(self, incidents: int) -> None:
            self.seen.append(("past", incidents))

    onlooker = Asking()
    thread = ObserverThread(onlooker, "the callback mine")
    thread.past(Counted(sums={'["tfresume_incidents", {"kind": "died"}]': 4.0}))
    thread.close(WITHIN_S)
    assert onlooker.seen == [("past", 4)]
