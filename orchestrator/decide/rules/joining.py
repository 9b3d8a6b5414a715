"""Has the generation formed?

Rule: training goes on when all of its members have joined.
"""

from __future__ import annotations

from orchestrator.decide.phases import Phase
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import TrainingBegan


def begin_training(turn: Turn) -> None:
    """Train when the last member has joined."""
    run = turn.run
    if run.phase is not Phase.FORMING:
        return
    # From the last rank on: the orders go out in the order of ranks, so it's mostly the last that is
    # missing, and a thousand messages don't each look through all before it
    if not all(run.workers[ident].joined for ident in reversed(run.members)):
        return
    turn.enter(Phase.TRAINING)
    turn.set(started=True, origin=None, accused="", store_down_s=None, moved_s=turn.now_s)
    turn.note(TrainingBegan(generation=run.generation, step=run.step, world_size=run.world_size))
