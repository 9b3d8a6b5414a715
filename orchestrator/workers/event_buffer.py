"""How does the driver learn what happens in a worker, without asking for each thing?

Rule: events are numbered and kept until the driver has acknowledged them, so that neither a lost
reply nor a dead driver loses one. Of signs of life that can't wait for the next answer only the
newest does. A poll returns as soon as there is anything.
"""

from __future__ import annotations

import threading
import time

from orchestrator.decide.events import Event, Progress


class EventBuffer:
    """A worker's events on their way to the driver. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._events: list[tuple[int, Event]] = []
        self._count = 0
        self._pulse: Progress | None = None

    def put(self, event: Event) -> None:
        """Keep an event until it's acknowledged."""
        with self._condition:
            self._count += 1
            self._events.append((self._count, event))
            self._condition.notify_all()

    def pulse(self, pulse: Progress) -> None:
        """Replace the sign of life that waits."""
        with self._condition:
            self._pulse = pulse
            self._condition.notify_all()

    def poll(self, after: int, timeout_s: float) -> tuple[int, list[Event]]:
        """Events with numbers above ``after`` and the newest sign of life; waits up to
        ``timeout_s`` for one.

        Returns:
            The number to pass next time, which acknowledges these events, and the events in their
            order.
        """
        deadline = time.monotonic() + timeout_s
        with self._condition:
            self._events = [entry for entry in self._events if entry[0] > after]
            while not self._events and self._pulse is None:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return after, []
                self._condition.wait(left_s)
            found: list[Event] = [event for _, event in self._events]
            last = self._events[-1][0] if self._events else after
            if self._pulse is not None:
                found.append(self._pulse)
                self._pulse = None
            return last, found
