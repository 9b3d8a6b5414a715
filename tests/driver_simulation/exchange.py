"""How do the members of a generation step together?

Rule: as the real exchange does it. A step happens when all members have come, and is atomic: where
the group breaks in the midst of one, some may have its result and the others not, and those can take
it from a member that has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.driver_simulation.schedule import Schedule

if TYPE_CHECKING:
    from tests.driver_simulation.worker import SimWorker

STEP_S = 0.4
"""As a rule: long enough for something to happen within one."""


class SimExchange:
    """The group of one generation."""

    def __init__(
        self,
        schedule: Schedule,
        world_size: int,
        step_s: float,
        taken: Callable[[SimExchange], None],
    ) -> None:
        self.taken, self._step_s = taken, step_s
        self._schedule, self._world_size = schedule, world_size
        self.broken = False
        self.members: dict[int, SimWorker] = {}
        self._ready: dict[int, Callable[[bool], None]] = {}
        self._count = 0

    def step(self, rank: int, then: Callable[[bool], None]) -> None:
        """One member is ready for the next step; ``then(whether it has the result)``."""
        self._ready[rank] = then
        if self.broken:
            self.abandon()
        elif len(self._ready) == self._world_size:
            self._count += 1
            count = self._count
            self._schedule.at(
                self._step_s * (0.8 + 0.4 * self._schedule.random.random()),
                lambda: self._end(count),
            )

    def _end(self, count: int) -> None:
        if count == self._count and not self.broken:
            ready, self._ready = self._ready, {}
            self.taken(self)
            for rank in sorted(ready):
                ready[rank](True)

    def abandon(self) -> None:
        """The group is broken for good: whoever waits in it is let go."""
        computed = len(self._ready) == self._world_size
        self.broken = True
        ready, self._ready = self._ready, {}
        for rank in sorted(ready):
            ready[rank](computed and self._schedule.random.random() < 0.3)
