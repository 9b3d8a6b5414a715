"""Who isn't needed any more?

Rule: a member whose rank has moved on is ended once the generation after it trains and no save
counts on it any more.
"""

from __future__ import annotations

from orchestrator.decide import crew, save_under_way
from orchestrator.decide.causes import Cause
from orchestrator.decide.phases import Phase
from orchestrator.decide.turn import Turn


def let_go(turn: Turn) -> None:
    """End the members whose rank has moved on."""
    run = turn.run
    if run.phase is not Phase.TRAINING:
        return
    for worker in crew.former(run):
        if not (turn.is_ending(worker.ident) or save_under_way.counts_on(run, worker.ident)):
            turn.end_worker(worker.ident, Cause.RELEASED, "its rank has moved on")
