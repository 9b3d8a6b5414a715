"""What is to be done, now that a fact has changed the run?

Rule: the rules stand in one fixed order. The first that changes the run is followed by all of them
anew, until none has anything to do: so none has to know which others its change concerns, and
nothing is decided on what an earlier one would have changed. A rule that acts changes the run, by
which it knows that it has acted.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.decide.phases import Phase
from orchestrator.decide.rules import (
    boundary,
    deadlines,
    ending,
    forming,
    gathering,
    granting,
    joining,
    reforming,
    releasing,
    saving,
    searching,
    staffing,
)
from orchestrator.decide.turn import Turn

RULES: tuple[Callable[[Turn], None], ...] = (
    deadlines.look,
    ending.end,
    gathering.gather,
    searching.search,
    forming.form,
    joining.begin_training,
    staffing.staff,
    reforming.plan,
    saving.save,
    releasing.let_go,
    granting.grant,
    boundary.meet,
)
RULES_OF_STEPS: tuple[Callable[[Turn], None], ...] = (granting.grant, boundary.meet)
"""What a quiet turn asks: the others look at who is there, and a thousand workers aren't looked
through for each sign of life.
"""
MOST_CHANGES = 50
"""More than any event has ever led to; beyond it two rules undo what the other does."""


class Restless(RuntimeError):
    """The rules contradict each other: an error of this project's code, never of a run."""


def reconcile(turn: Turn) -> None:
    """Apply the rules until none of them changes anything. After the end none is asked.

    Raises:
        Restless: they never come to rest.
    """
    if turn.quiet and not _change(turn, RULES_OF_STEPS):
        return
    for _ in range(MOST_CHANGES):
        if turn.run.phase is Phase.ENDED or not _change(turn, RULES):
            return
    raise Restless(f"no end of changes: {[type(action).__name__ for action in turn.actions]}")


def _change(turn: Turn, rules: tuple[Callable[[Turn], None], ...]) -> bool:
    """Whether some rule has changed the run; those after it weren't asked."""
    before = turn.run
    for rule in rules:
        rule(turn)
        if turn.run is not before:
            return True
    return False
