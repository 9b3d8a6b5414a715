"""Is a checkpoint to be looked for?

Rule: it is when nobody has a state that counts and none is known to start from. A state that the run
rolls back from is nobody's state any more.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import crew
from orchestrator.decide.actions import FindCheckpoint
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Stage
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import FindingCheckpoint, RollingBack


def search(turn: Turn) -> None:
    """Look for the newest good checkpoint, or ask a store again that didn't answer."""
    run = turn.run
    if run.ending is not None:
        return
    if run.phase is Phase.FINDING:
        if run.retry_s is not None and turn.now_s >= run.retry_s:
            _look(turn, "the store is asked again")
    elif run.phase in (Phase.GATHERING, Phase.WAITING) and crew.stands_still(run):
        if run.rolling_back:
            roll_back(turn)
        elif run.origin is None and crew.may_form(run, turn.now_s) and crew.donor(run) is None:
            turn.enter(Phase.FINDING)
            _look(turn, crew.why_none_goes_on(run))


def _look(turn: Turn, reason: str) -> None:
    turn.set(retry_s=None)
    turn.note(FindingCheckpoint(reason=reason))
    turn.act(FindCheckpoint(reason, turn.run.bad))


def roll_back(turn: Turn) -> None:
    """Everybody stands still: go back to the newest good checkpoint. Nobody's state counts, whoever
    still holds one.
    """
    turn.workers(
        replace(worker, step=None, tainted=True) for worker in crew.in_stage(turn.run, Stage.MEMBER)
    )
    turn.set(rolling_back=False)
    turn.note(RollingBack(step=turn.run.rolled_back_from, generation=turn.run.generation))
    turn.enter(Phase.FINDING)
    _look(turn, "the newer state isn't worth keeping")
