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
    if run.workers.tally.lacking:
        return
    turn.enter(Phase.TRAINING)
    turn.set(started=True, origin=None, accused="", store_down_s=None, moved_s=turn.now_s)
    turn.note(TrainingBegan(generation=run.generation, step=run.step, world_size=run.world_size))
