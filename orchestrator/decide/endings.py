"""Why is the run to end?

Rule: whoever finds a reason writes it here; the rule ``ending`` sees to the last save and finishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.decide.actions import Outcome
from orchestrator.decide.run import Ending, Run
from orchestrator.decide.turn import Turn
from orchestrator.errors import RecoveryExhausted, StorageUnavailable
from orchestrator.journal.run_events import DeadlinePassed, GaveUp

LAST_SAVE_S = 300.0
"""Longest time for the last save where nobody is about to kill us, unless it still moves."""


def fail(
    turn: Turn, reason: str, error: Mapping[str, Any] | None, *, at_once: bool = False
) -> None:
    """End the run as failed, after a last save unless ``at_once``."""
    turn.set(
        ending=Ending(
            Outcome.FAILED, reason, turn.now_s + LAST_SAVE_S, error=error, at_once=at_once
        )
    )


def out_of_time(turn: Turn, how: Ending) -> None:
    """End now, since no time is left for the last save. An end of data whose last step isn't saved
    is none: what was asked for meanwhile counts instead, and where nothing was the run has failed.
    """
    turn.note(DeadlinePassed(reason="no time is left for the last save"))
    committed = turn.run.saves.committed
    if how.last_step is None or (committed is not None and committed >= how.last_step):
        turn.set(ending=replace(how, at_once=True))
    elif how.instead is not None:
        turn.set(ending=replace(how.instead, at_once=True))
    else:
        reason = f"{how.reason}, and no save of that step was made in time"
        remedy = "Check the output; the same command goes on from the last good checkpoint"
        fail(turn, reason, StorageUnavailable(reason, remedy=remedy).as_dict(), at_once=True)


def give_up(turn: Turn, reason: str, error: Mapping[str, Any] | None) -> None:
    """End the run after a last save, since nothing that it could do would help."""
    fail(turn, reason, error)
    turn.note(GaveUp(reason=reason))


def give_up_recovering(turn: Turn, reason: str) -> None:
    """End the run after a last save, since going on would fail again."""
    told = reason + last_cause(turn.run)
    remedy = "See `tfresume report`; the same command goes on from the last checkpoint"
    give_up(turn, told, RecoveryExhausted(told, remedy=remedy).as_dict())


def last_cause(run: Run) -> str:
    """What went wrong last, as the end of a sentence; empty where nothing has."""
    return f"; the last time: {run.last_cause}" if run.last_cause else ""
