"""How are many workers started at once, without anybody waiting for it?

Rule: each start asks Ray for a place and an actor, two answers of some ten milliseconds each, so
several are under way side by side and none in the loop. Whoever closes waits for those under way:
what they have made is then known, or they have taken it back.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.decide import actions as act
from orchestrator.workers.scheduling import THREADS, Scheduler, StartedThread

SIDE_BY_SIDE = 16
"""A thousand starts of 13 to 43 ms each are asked for within 3 s, as long as Ray answers so many at
once; each is a thread that waits.
"""


class Starter:
    """Starts workers, in the order in which they are asked for, up to ``SIDE_BY_SIDE`` at a time.

    Args:
        start: starts one; mustn't raise.
        scheduler: runs them.
    """

    def __init__(
        self, start: Callable[[act.StartWorker], None], scheduler: Scheduler = THREADS
    ) -> None:
        self._start, self._scheduler = start, scheduler
        self._asked = scheduler.line()
        self._threads: list[StartedThread] = []
        self._closed = False

    def ask(self, action: act.StartWorker) -> None:
        """Have a worker started; returns at once. After ``close`` nothing is started."""
        self._asked.put(action)
        if len(self._threads) < SIDE_BY_SIDE:
            self._threads.append(self._scheduler.start(self._work, "tfresume-start"))

    def close(self, timeout_s: float) -> None:
        """Return when no start is under way any more, or after ``timeout_s``."""
        self._closed = True
        deadline_s = self._scheduler.monotonic() + timeout_s
        for _ in self._threads:
            self._asked.put(None)
        for thread in list(self._threads):
            thread.join(max(0.0, deadline_s - self._scheduler.monotonic()))

    def _work(self) -> None:
        while (action := self._asked.get()) is not None:
            if not self._closed:
                self._start(action)
