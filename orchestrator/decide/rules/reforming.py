"""Is the journal to be told that a re-form is planned, or that it isn't any more?

Rule: whether the group is to be formed anew at the next boundary follows from who is there
(``Run.reform``). What the journal was told of it is all that is remembered.
"""

from __future__ import annotations

from orchestrator.decide.phases import Phase
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import ReformCancelled, ReformPlanned


def plan(turn: Turn) -> None:
    """Write down that a re-form is wanted, or that it isn't any more."""
    run = turn.run
    if run.ending is not None or run.phase is not Phase.TRAINING:
        return
    why = run.reform
    if why == run.planned:
        return
    turn.set(planned=why)
    if why:
        turn.note(ReformPlanned(reason=why, boundary=run.granted_end))
    else:
        turn.note(ReformCancelled(reason=f"no longer needed: {run.planned}"))
