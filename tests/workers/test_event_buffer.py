"""Is no event lost between a worker and a driver that loses replies, and does a poll come back at
once?
"""

from __future__ import annotations

import threading
import time

from orchestrator.decide.events import Doing, Notice, Progress
from orchestrator.workers.event_buffer import EventBuffer


def test_event_buffer_events_stay_until_they_are_acknowledged() -> None:
    event_buffer = EventBuffer()
    event_buffer.put(Notice("w", "one"))
    event_buffer.put(Notice("w", "two"))
    after, events = event_buffer.poll(0, 0.0)
    assert [event.detail for event in events if isinstance(event, Notice)] == ["one", "two"]
    assert event_buffer.poll(0, 0.0)[1] == events, "the reply was lost: the same events come again"
    assert event_buffer.poll(after, 0.0) == (after, [])


def test_event_buffer_keeps_only_the_newest_sign_of_life() -> None:
    event_buffer = EventBuffer()
    for step in range(5):
        event_buffer.pulse(Progress("w", 1, step, Doing.STEP))
    _, events = event_buffer.poll(0, 0.0)
    assert [event.step for event in events if isinstance(event, Progress)] == [4]
    assert event_buffer.poll(0, 0.0)[1] == []


def test_event_buffer_poll_returns_as_soon_as_something_happens() -> None:
    event_buffer = EventBuffer()
    began_s = time.monotonic()
    threading.Timer(0.05, event_buffer.put, (Notice("w", "now"),)).start()
    _, events = event_buffer.poll(0, 10.0)
    assert events == [Notice("w", "now")]
    assert time.monotonic() - began_s < 5


def test_event_buffer_poll_without_events_comes_back_in_time() -> None:
    assert EventBuffer().poll(7, 0.01) == (7, [])
