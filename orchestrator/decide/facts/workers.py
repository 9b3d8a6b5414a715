"""A worker has appeared, is about to go, or is gone: what changes?

Rule: a loss is written down with its reason, once. Who is gone is no member any more before
anything else is looked at.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import crew, incidents, losses
from orchestrator.decide.actions import AwaitEnd, EndWorker
from orchestrator.decide.causes import Cause
from orchestrator.decide.doing import Doing
from orchestrator.decide.events import Draining, Gone, Notice, Room, Warm
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.turn import Turn
from orchestrator.journal.save_events import SaveOwed
from orchestrator.journal.worker_events import (
    LossExplained,
    LossOfWorker,
    WorkerNotice,
    WorkerReleased,
    WorkerWarm,
)


def on_warm(turn: Turn, event: Warm) -> None:
    """A worker is ready to take a rank. One that was adopted and has a rank already says so late."""
    if event.worker not in turn.run.workers:
        turn.act(EndWorker(event.worker, Cause.RELEASED.value, "not known to this run"))
        return
    worker = turn.run.workers[event.worker]
    seconds = turn.now_s - worker.since_s
    turn.worker(event.worker, node=event.node, pid=event.pid, heard_s=turn.now_s)
    # Else it would be taken for a standby beside its rank, and be seated twice in the next group
    if worker.stage is not Stage.MEMBER:
        turn.worker(
            event.worker,
            stage=Stage.WARM,
            address=event.address,
            since_s=turn.now_s,
            doing=Doing.IDLE,
        )
    turn.set(start_failures=0)
    turn.note(
        WorkerWarm(
            worker=event.worker,
            node=event.node,
            pid=event.pid,
            seconds=round(seconds, 3),
            place=event.group if event.devices else "",
            devices=tuple(event.devices),
        )
    )


def on_notice(turn: Turn, event: Notice) -> None:
    """A worker will be ended soon: it hands over while it lives, or the group saves just in time."""
    worker = turn.run.workers.get(event.worker)
    if worker is None or worker.leaving:
        return
    turn.worker(event.worker, leaving=True)
    turn.note(
        WorkerNotice(
            worker=event.worker,
            rank=turn.run.rank_of(event.worker),
            node=worker.node,
            reason=event.detail,
        )
    )
    run = turn.run
    trains = run.phase is Phase.TRAINING and run.ending is None
    if trains and run.rank_of(event.worker) is not None and not run.reforms:
        turn.set(saves=replace(run.saves, owed=True))
        turn.note(SaveOwed(reason="nobody can take over yet", worker=event.worker))


def on_draining(turn: Turn, event: Draining) -> None:
    """Nodes are about to be taken away, and with them their workers."""
    for ident in turn.run.workers:
        if turn.run.workers[ident].node in event.nodes:
            on_notice(turn, Notice(ident, event.detail))


def on_room(turn: Turn, event: Room) -> None:
    """The cluster could place more workers."""
    if turn.run.phase is Phase.TRAINING:
        turn.set(room=event.free)


def on_seen_dead(turn: Turn, rank: int) -> None:
    """A peer has seen the process of this rank's member end. The group goes on without waiting for
    Ray to say so.
    """
    ident = turn.run.seats[rank] if rank < turn.run.world_size else ""
    if turn.run.rank_of(ident) is None or turn.run.workers[ident].ended_s is not None:
        return  # who is ended by us is told with the reason for that
    leaving = turn.run.workers[ident].leaving
    turn.set(seen_dead={**turn.run.seen_dead, ident: (rank, leaving)})
    turn.act(AwaitEnd(ident))
    on_gone(turn, Gone(ident, Cause.DIED))


def _explained(turn: Turn, event: Gone) -> None:
    """Ray has its word on a worker whose death the peers had seen."""
    seen = turn.run.seen_dead
    rank, leaving = seen[event.worker]
    cause = _cause(event, leaving)
    turn.set(seen_dead={ident: item for ident, item in seen.items() if ident != event.worker})
    if event.detail or event.cause is not Cause.DIED:
        turn.note(
            LossExplained(
                worker=event.worker,
                rank=rank,
                cause=cause.value,
                reason=event.detail,
                exit_code=event.exit_code,
            )
        )
    incidents.explain(turn, event.worker, cause.value, event.detail, event.exit_code)


def _cause(event: Gone, leaving: bool) -> Cause:
    """What a worker's end is counted as: that of one that was about to go is what was announced."""
    return Cause.PREEMPTED if leaving and event.cause is Cause.DIED else event.cause


def _without(idents: tuple[str, ...], ident: str) -> tuple[str, ...]:
    place = idents.index(ident)
    return idents[:place] + idents[place + 1 :]


def on_gone(turn: Turn, event: Gone) -> None:
    """A worker is no more."""
    run = turn.run
    worker = run.workers.get(event.worker)
    if worker is None:
        if event.worker in run.seen_dead:
            _explained(turn, event)
        return
    rank = worker.rank
    cause = _cause(event, worker.leaving)
    turn.set(
        workers=run.workers.without(event.worker),
        members=run.members if rank is None else _without(run.members, event.worker),
    )
    if cause is Cause.RELEASED and rank is None:
        turn.note(WorkerReleased(worker=event.worker, reason=event.detail))
    else:
        _lost(turn, worker, replace(event, cause=cause), rank)
    if rank is not None:
        turn.gather(f"{event.worker} (rank {rank}) is gone: {cause.value}")


def _lost(turn: Turn, worker: Worker, event: Gone, rank: int | None) -> None:
    """Write the loss down, pay for it, and see whether the run can go on."""
    run = turn.run
    spared = rank is None and crew.goes_on_without_more(run)
    turn.note(
        LossOfWorker(
            worker=worker.ident,
            rank=rank,
            node=worker.node,
            pid=worker.pid,
            cause=event.cause.value,
            reason=event.detail,
            step=worker.step,
            phase=run.phase.value,
            spared=spared,
            exit_code=event.exit_code,
        )
    )
    if worker.stage is Stage.STARTING:
        turn.set(start_failures=run.start_failures + 1)
    if spared:
        return
    if event.detail or rank is not None:
        turn.set(
            last_cause=f"{worker.ident} was lost ({event.cause.value})"
            + (f": {event.detail}" if event.detail else "")
        )
    if rank is not None:
        incidents.open_incident(
            turn, event.cause.value, worker, rank, event.detail, event.exit_code
        )
    losses.pay(turn, worker, event, begun=rank is not None and run.phase is Phase.TRAINING)
