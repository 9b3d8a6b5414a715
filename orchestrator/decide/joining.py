"""Has the generation formed, and what if it hasn't?

Rule: training goes on when all have joined. A member that couldn't join says what stood in its way:
what no further try can help ends the run with that very error, everything else is tried again, with
a back-off.
"""

from __future__ import annotations

from orchestrator.decide import ending, forming, membership, saves, searching, stepping
from orchestrator.decide.actions import EndWorker, Outcome
from orchestrator.decide.events import Cause, Joined, JoinFailed, Obstacle
from orchestrator.decide.run import Ending, Phase, Stage
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import JoinFailure, TrainingBegan
from orchestrator.journal.run_events import GaveUp


def on_joined(turn: Turn, event: Joined) -> None:
    """A member is ready to step; when all are, training goes on."""
    run = turn.run
    if event.generation != run.generation or event.worker not in run.members:
        return
    if run.phase is not Phase.FORMING:
        turn.worker(event.worker, tainted=False)
        return
    turn.worker(event.worker, joined=True, tainted=False, step=event.step, heard_s=turn.now_s)
    run = turn.run
    if not all(run.workers[ident].joined for ident in run.members):
        return
    turn.enter(Phase.TRAINING)
    turn.set(started=True, origin=None, accused="", store_down_s=None, moved_s=turn.now_s)
    let_go(turn)
    turn.note(TrainingBegan(generation=run.generation, step=run.step, world_size=run.world_size))
    membership.staff(turn)
    membership.consider_reform(turn)
    stepping.grant(turn)
    stepping.boundary(turn)


def let_go(turn: Turn) -> None:
    """End the members whose rank has moved on, once no save counts on them any more."""
    run = turn.run
    if run.phase is not Phase.TRAINING:
        return
    for worker in run.workers.values():
        if (
            worker.stage is Stage.MEMBER
            and worker.ident not in run.members
            and not saves.counts_on(run, worker.ident)
        ):
            turn.act(EndWorker(worker.ident, Cause.RELEASED.value, "its rank has moved on"))


def on_join_failed(turn: Turn, event: JoinFailed) -> None:
    """A member lives but couldn't join: gather again, unless no further try can help."""
    run = turn.run
    if event.generation != run.generation or event.worker not in run.members:
        return
    rank = run.rank_of(event.worker)
    told = f"rank {rank} ({event.worker}) couldn't join: {event.detail}"
    turn.note(
        JoinFailure(
            worker=event.worker,
            rank=rank,
            reason=event.detail,
            obstacle=event.obstacle.value,
            generation=event.generation,
        )
    )
    turn.set(last_cause=told)
    if run.phase is not Phase.FORMING:
        return  # the formation has failed already, and this member is asked to stop like the others
    match event.obstacle:
        case Obstacle.DAMAGED:
            searching.accuse(turn, event.detail)
        case Obstacle.MISSING:
            turn.set(origin=None)
        case Obstacle.STORE:
            searching.store_failed(turn, event.detail, event.error)
        case Obstacle.MISFIT:
            _cannot_help(turn, event)
        case Obstacle.PASSING:
            pass
    searching.back_off(turn, told)
    forming.gather(turn, told)


def _cannot_help(turn: Turn, event: JoinFailed) -> None:
    if turn.run.ending is None:
        turn.set(
            ending=Ending(
                Outcome.FAILED, event.detail, turn.now_s + ending.LAST_SAVE_S, error=event.error
            )
        )
        turn.note(GaveUp(reason=event.detail))
