"""How are a thousand workers called, while the loop goes on with what it hears?

Rule: a call of Ray takes half a millisecond of its caller, so one thread makes all of them, in the
order in which they were asked for: none that a worker is sent overtakes an earlier one. What isn't
sent when the run is over is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from orchestrator.workers.scheduling import Scheduler


class Sender:
    """Makes calls in a thread of its own, from the first one on."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self._line = scheduler, scheduler.line()
        self._lock = threading.Lock()
        self._begun = self._closed = False

    def ask(self, send: Callable[[], None]) -> None:
        """Have ``send`` called soon; from any thread. It mustn't raise."""
        self._line.put(send)
        with self._lock:
            begins, self._begun = not self._begun, True
        if begins:
            self._scheduler.start(self._work, "tfresume-send")

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        self._line.put(_nothing)

    def _work(self) -> None:
        while not self._closed:
            self._line.get()()


def _nothing() -> None:
    """Wakes the thread."""
