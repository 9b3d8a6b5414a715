"""What does each rank's step spend its time on?

Rule: workers tell what they have spent since their process began; the difference of two signs of
life, over the steps between them, is what a step took. Only those signs count that tell of another
step of the same generation: what lies before its first step and after its last one is the
recovery's, and is spread over nobody's steps.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.decide.events import Progress
from orchestrator.journal.run_events import StepsTimed

FIRST_S, EVERY_S = 5.0, 30.0
"""Soon after the beginning for whoever tries a setting out, then so that the numbers of ``RANKS``
make some megabytes of journal a day.
"""
RANKS = 64
"""More of them are told less often, so that a day's journal is no longer than theirs."""


@dataclass(frozen=True)
class _Sight:
    pulse: Progress
    at_s: float


class StepTimes:
    """The ranks' sights since the last telling."""

    def __init__(self) -> None:
        self._generation = 0
        self._taken: dict[str, int] = {}
        self._first: dict[str, _Sight] = {}
        self._last: dict[str, _Sight] = {}
        self._since_s: float | None = None
        self._every_s = FIRST_S

    def take(self, pulse: Progress, now_s: float, workers: Container[str]) -> None:
        """One sign of life.

        Args:
            workers: those that are there.
        """
        if pulse.generation < self._generation:
            return
        if pulse.generation > self._generation:
            self._generation, self._first, self._last = pulse.generation, {}, {}
            self._taken = {who: steps for who, steps in self._taken.items() if who in workers}
            self._since_s = now_s
        # Also of earlier generations: a member that stayed is heard before its first step of this
        if pulse.steps_taken <= self._taken.get(pulse.worker, 0):
            return
        self._taken[pulse.worker] = pulse.steps_taken
        sight = _Sight(pulse, now_s)
        self._first.setdefault(pulse.worker, sight)
        self._last[pulse.worker] = sight

    def is_due(self, now_s: float) -> bool:
        """Whether there is something to be told again."""
        return self._since_s is not None and now_s - self._since_s >= self._every_s

    def told(self, seats: Sequence[str], step: int, now_s: float) -> StepsTimed | None:
        """What a step took since the last telling; None where nobody has taken one.

        Args:
            seats: the members by rank.
        """
        found = {
            str(rank): parts
            for rank, worker in enumerate(seats)
            if worker in self._last
            and (parts := _parts(self._first[worker], self._last[worker])) is not None
        }
        if not found:
            return None
        self._first, self._since_s = dict(self._last), now_s
        self._every_s = EVERY_S * max(1.0, len(found) / RANKS)
        return StepsTimed(generation=self._generation, step=step, ranks=found)


def _parts(first: _Sight, last: _Sight) -> Mapping[str, float] | None:
    steps = last.pulse.steps_taken - first.pulse.steps_taken
    if steps <= 0:
        return None
    parts = {
        name: max(0.0, seconds - first.pulse.spent.get(name, 0.0)) / steps
        for name, seconds in last.pulse.spent.items()
    }
    whole = max((last.at_s - first.at_s) / steps, sum(parts.values()))
    parts |= {"other": whole - sum(parts.values()), "all": whole}
    return {name: round(seconds, 6) for name, seconds in parts.items()}
