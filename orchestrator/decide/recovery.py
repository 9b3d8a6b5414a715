"""What follows from a disturbance: whose state goes on, and when is it time to give up?

Rule: the survivor with the highest step has the state that nobody has to do again. The same error
at the same step twice in a row is a crash loop; so are many re-forms without a step between them,
whatever the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.decide.budgets import Budgets
from orchestrator.decide.causes import Cause

SAME_ERROR_LIMIT = 2
"""The same error at the same step in a row: the first time it may be the machine, the second time
it is the graph or its data, which every further try would meet again.
"""
SAME_DEATH_LIMIT = 4
"""A bare death (SIGKILL) names no error: a reclaimed node looks like it too, so it takes more of
them to be a loop.
"""
START_ERROR_LIMIT = 3
"""Workers in a row that end with the same error before they have a rank. One more than for a step:
several workers start at once, so a single bad node may already give two.
"""
FRUITLESS_LIMIT = 10
"""Formations in a row that didn't lead to a single step. Each costs up to some minutes of joining;
losses in the midst of one are rare, so ten of them aren't chance any more.
"""


@dataclass(frozen=True)
class Streak:
    """The last disturbance of a generation that had begun to step, and how often it came in a row
    at the same step.
    """

    signature: str = ""
    place: tuple[int, int] = (-1, -1)
    times: int = 0

    def after(self, signature: str, place: tuple[int, int]) -> Streak:
        """The streak after one more disturbance."""
        if signature == self.signature and place == self.place:
            return replace(self, times=self.times + 1)
        return Streak(signature, place, 1)


@dataclass(frozen=True)
class GoOn:
    """Recover."""

    budgets: Budgets
    streak: Streak


@dataclass(frozen=True)
class GiveUp:
    """Stop the run after a last save."""

    budgets: Budgets
    streak: Streak
    reason: str


def after_loss(
    cause: Cause,
    detail: str,
    node: str,
    place: tuple[int, int],
    begun: bool,
    budgets: Budgets,
    streak: Streak,
    now_s: float,
) -> GoOn | GiveUp:
    """What a worker's loss means for the run.

    Args:
        detail: the error's text; empty for a bare death.
        place: the group's last finished step, and the batches consumed by then.
        begun: the worker's generation was training, so that the loss can have to do with the step.
    """
    budgets = budgets.spend(cause, node, now_s)
    if cause in (Cause.PREEMPTED, Cause.RELEASED):
        return GoOn(budgets, streak)
    # A node takes its workers along whatever they did, so no streak of the same death
    if cause is Cause.NODE:
        reason = budgets.exhausted(now_s)
        return GiveUp(budgets, streak, reason) if reason else GoOn(budgets, streak)
    told = cause is Cause.ERROR and bool(detail)
    if begun or told:
        # Of a death it depends on who tells it first what is known, so its text is no part of it
        signature = f"{cause.value}:{'' if cause is Cause.DIED else detail}"
        streak = streak.after(signature, place if begun else (-1, -1))
        limit = SAME_DEATH_LIMIT if not told else SAME_ERROR_LIMIT if begun else START_ERROR_LIMIT
        if streak.times >= limit:
            where = f"at step {place[0]}" if begun else "before training"
            return GiveUp(
                budgets,
                streak,
                f"crash loop: {detail or f'a worker {cause.value}'}, {streak.times} times in a row {where}",
            )
    reason = budgets.exhausted(now_s)
    return GiveUp(budgets, streak, reason) if reason else GoOn(budgets, streak)


def donor(
    order: Sequence[str],
    places: Mapping[str, tuple[int, int, int] | None],
    *,
    differing: bool = False,
) -> str | None:
    """The worker whose state goes on: the furthest, the first in ``order`` among equals; None if
    nobody has a state.

    Args:
        places: step, batches consumed before it, and runs of the next step's cycle; None where a
            worker has no state.
        differing: the states at one step aren't equal. Then being a step ahead proves nothing, and
            the first in ``order`` is taken.
    """
    holders = [
        ((0, 0, 0) if differing else place, -number, worker)
        for number, worker in enumerate(order)
        if (place := places.get(worker)) is not None
    ]
    return max(holders)[2] if holders else None
