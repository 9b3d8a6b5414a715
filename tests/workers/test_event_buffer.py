"""Is no event lost between a worker and a driver that loses replies, and does a poll come back at
once?
"""

from __future__ import annotations

import threading
import time

from orchestrator.decide.events import Doing, Notice, Progress
from orchestrator.workers.event_buffer import Outbox


def test_outbox_events_stay_until_they_are_acknowledged() -> None:
    outbox = Outbox()
    outbox.put(Notice("w", "one"))
    outbox.put(Notice("w", "two"))
    after, events = outbox.poll(0, 0.0)
    assert [event.detail for event in events if isinstance(event, Notice)] == ["one", "two"]
    assert outbox.poll(0, 0.0)[1] == events, "the reply was lost: the same events come again"
    assert outbox.poll(after, 0.0) == (after, [])


def test_outbox_keeps_only_the_newest_sign_of_life() -> None:
    outbox = Outbox()
    for step in range(5):
        outbox.pulse(Progress("w", 1, step, Doing.STEP))
    _, events = outbox.poll(0, 0.0)
    assert [event.step for event in events if isinstance(event, Progress)] == [4]
    assert outbox.poll(0, 0.0)[1] == []


def test_outbox_poll_returns_as_soon_as_something_happens() -> None:
    outbox = Outbox()
    began_s = time.monotonic()
    threading.Timer(0.05, outbox.put, (Notice("w", "now"),)).start()
    _, events = outbox.poll(0, 10.0)
    assert events == [Notice("w", "now")]
    assert time.monotonic() - began_s < 5


def test_outbox_poll_without_events_comes_back_in_time() -> None:
    assert Outbox().poll(7, 0.01) == (7, [])
