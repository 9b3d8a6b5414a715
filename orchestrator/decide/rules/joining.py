"""Has the generation formed?

Rule: training goes on when all of its members have joined. One that was formed for members to catch
up is followed by the one in which rows are moved.
"""

from __future__ import annotations

from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import RowsMoved, TrainingBegan


def begin_training(turn: Turn) -> None:
    """Train when the last member has joined."""
    run = turn.run
    if run.phase is not Phase.FORMING:
        return
    if run.workers.tally.lacking:
        return
    if run.catches_up:
        turn.gather("all members are as far as each other, and rows are to be moved")
        return
    turn.enter(Phase.TRAINING)
    if run.givers:
        turn.note(_moved(run))
    turn.set(started=True, origin=None, accused="", store_down_s=None, moved_s=turn.now_s)
    turn.note(TrainingBegan(generation=run.generation, step=run.step, world_size=run.world_size))


def _moved(run: Run) -> RowsMoved:
    took = [run.workers[ident].took for ident in run.members]
    return RowsMoved(
        generation=run.generation,
        givers=run.givers,
        takers=tuple(ident for ident in run.members if run.workers[ident].took[0]),
        rows=sum(rows for rows, _ in took),
        size_bytes=sum(size_bytes for _, size_bytes in took),
    )
