"""What follows when a worker appears, is about to go, or is gone?

Rule: every loss is judged once (``recovery.after_loss``), paid for once (``budgets``), and written
down with its reason. Lost capacity is asked for again at once, with a back-off that grows with the
failures since the last finished step. A worker without a rank can't end a run whose members go on
without it. A planned re-form lasts as long as its reason.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import budgets, ending, forming, recovery, saves, scaling, stepping
from orchestrator.decide.actions import EndWorker, Outcome, StartWorker
from orchestrator.decide.events import Cause, Doing, Draining, Gone, Notice, Room, Warm
from orchestrator.decide.run import Ending, Incident, Phase, Run, Stage, Worker
from orchestrator.decide.turn import Turn
from orchestrator.errors import RecoveryExhausted
from orchestrator.journal.group_events import Growing, ReformCancelled, ReformPlanned
from orchestrator.journal.run_events import GaveUp
from orchestrator.journal.save_events import SaveOwed
from orchestrator.journal.worker_events import (
    LossOfWorker,
    WorkerNotice,
    WorkerReleased,
    WorkerStarted,
    WorkerWarm,
)

STANDBY_AFTER_S = 1.0
"""A take-over by a standby is over by then, as a rule; until then a new standby would only compete
with it for the processor.
"""


def staff(turn: Turn, extra: int = 0) -> None:
    """Start the workers that the run lacks, and ``extra`` more to grow."""
    run = turn.run
    if run.ending is not None or run.phase is Phase.ENDED:
        return
    staying = sum(1 for worker in run.workers.values() if not worker.leaving)
    count = scaling.missing(run.policy.sizes, run.target, staying) + extra
    avoid = run.budgets.excluded_nodes(turn.now_s)
    stage = run.origin is not None and not run.started
    workers = dict(run.workers)
    for number in range(run.next_worker, run.next_worker + count):
        ident = f"w{number:04d}"
        delay_s = max(
            budgets.backoff_s(run.failures, ident),
            _start_backoff_s(run, ident),
            _recovering_s(turn),
        )
        # The places of processes that are used up become free only when their state has passed
        held_up = any(worker.spent for worker in workers.values())
        standby = (
            held_up or sum(1 for worker in workers.values() if not worker.leaving) >= run.target
        )
        begins_s = turn.now_s + delay_s
        workers[ident] = Worker(
            ident, Stage.STARTING, since_s=begins_s, heard_s=begins_s, moved_s=begins_s
        )
        turn.act(StartWorker(ident, delay_s, avoid, standby, stage))
        turn.note(
            WorkerStarted(
                worker=ident,
                delay_s=round(delay_s, 3),
                avoid=tuple(avoid),
                standby=standby,
            )
        )
    turn.set(workers=workers, next_worker=run.next_worker + count)


def _recovering_s(turn: Turn) -> float:
    """How long a new process waits for a group that is just being formed from warm workers: loading
    takes seconds of a processor.
    """
    run = turn.run
    staying = sum(1 for ident in run.members if not run.workers[ident].leaving)
    warm = sum(1 for worker in turn.alive(Stage.WARM) if not worker.leaving)
    return (
        STANDBY_AFTER_S
        if run.incident is not None and run.started and warm and staying + warm >= run.target
        else 0.0
    )


def _start_backoff_s(run: Run, ident: str) -> float:
    longest_s = (
        budgets.LONGEST_START_BACKOFF_S if _goes_on_without_more(run) else budgets.LONGEST_BACKOFF_S
    )
    return budgets.backoff_s(run.start_failures, ident, longest_s)


def _goes_on_without_more(run: Run) -> bool:
    """Whether the members alone make a group that may train: then no worker without a rank can be
    the run's end.
    """
    staying = sum(1 for ident in run.members if not run.workers[ident].leaving)
    return (
        run.started
        and scaling.group_size(run.policy.sizes, run.target, True, staying, 0) is not None
    )


def on_warm(turn: Turn, event: Warm) -> None:
    """A worker is ready to take a rank."""
    if event.worker not in turn.run.workers:
        turn.act(EndWorker(event.worker, Cause.RELEASED.value, "not known to this run"))
        return
    seconds = turn.now_s - turn.run.workers[event.worker].since_s
    turn.worker(
        event.worker,
        stage=Stage.WARM,
        node=event.node,
        pid=event.pid,
        address=event.address,
        heard_s=turn.now_s,
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
    match turn.run.phase:
        case Phase.WAITING | Phase.GATHERING:
            forming.settle(turn)
        case Phase.TRAINING:
            consider_reform(turn)
        case Phase.FINDING | Phase.FORMING | Phase.ENDED:
            pass


def consider_reform(turn: Turn) -> None:
    """Plan a re-form at the next boundary where it does something better than wait, or drop the
    plan when its reason is gone.
    """
    run = turn.run
    if run.ending is not None or run.phase is not Phase.TRAINING:
        return
    why = _why_reform(run)
    if why == run.reform:
        return
    turn.set(reform=why)
    if why:
        turn.note(ReformPlanned(reason=why, boundary=run.lease_end))
    else:
        turn.note(ReformCancelled(reason=f"no longer needed: {run.reform}"))
        stepping.grant(turn)


def _why_reform(run: Run) -> str:
    warm = [
        worker
        for worker in run.workers.values()
        if worker.stage is Stage.WARM and not worker.leaving
    ]
    staying = [run.workers[ident] for ident in run.members if not run.workers[ident].leaving]
    size = scaling.group_size(run.policy.sizes, run.target, True, len(staying), len(warm))
    if size is None:
        return ""
    if len(staying) < len(run.members):
        return f"{', '.join(ident for ident in run.members if run.workers[ident].leaving)} is about to go"
    return f"grow from {run.world_size} to {size} workers" if size > run.world_size else ""


def on_notice(turn: Turn, event: Notice) -> None:
    """A worker will be ended soon: hand over while it lives, or save just in time."""
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
    staff(turn)
    consider_reform(turn)
    run = turn.run
    if (
        event.worker in run.members
        and run.phase is Phase.TRAINING
        and run.ending is None
        and not run.reform
    ):
        turn.set(saves=replace(run.saves, owed=True))
        turn.note(SaveOwed(reason="nobody can take over yet", worker=event.worker))


def on_draining(turn: Turn, event: Draining) -> None:
    """Nodes are about to be taken away, and with them their workers."""
    for ident in sorted(turn.run.workers):
        worker = turn.run.workers.get(ident)
        if worker is not None and worker.node in event.nodes:
            on_notice(turn, Notice(ident, event.detail))


def on_room(turn: Turn, event: Room) -> None:
    """The cluster could place more workers: grow."""
    if turn.run.phase is Phase.TRAINING:
        extra = scaling.growth(turn.run.policy.sizes, len(turn.run.workers), event.free)
        if extra:
            turn.note(Growing(workers=extra, free=event.free))
            staff(turn, extra)


def on_gone(turn: Turn, event: Gone) -> None:
    """A worker is no more."""
    run = turn.run
    worker = run.workers.get(event.worker)
    if worker is None:
        return
    rank = run.rank_of(event.worker) if event.worker in run.members else None
    cause = Cause.PREEMPTED if worker.leaving and event.cause is Cause.DIED else event.cause
    # First of all it's no member any more: whatever follows looks at the members
    turn.set(
        workers={ident: other for ident, other in run.workers.items() if ident != event.worker},
        members=tuple(ident for ident in run.members if ident != event.worker),
    )
    if cause is Cause.RELEASED and rank is None:
        turn.note(WorkerReleased(worker=event.worker, reason=event.detail))
    else:
        _lost(turn, worker, replace(event, cause=cause), rank)
    saves.on_member_gone(turn, event.worker)
    if rank is not None:
        forming.gather(turn, f"{event.worker} (rank {rank}) is gone: {cause.value}")
    else:
        forming.settle(turn)
    consider_reform(turn)
    staff(turn)


def _lost(turn: Turn, worker: Worker, event: Gone, rank: int | None) -> None:
    """Write the loss down, pay for it, and see whether the run can go on."""
    run = turn.run
    spared = rank is None and _goes_on_without_more(run)
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
        open_incident(turn, event.cause.value, worker, rank, event.detail)
    judge(turn, worker, event, begun=rank is not None and run.phase is Phase.TRAINING)


def judge(turn: Turn, worker: Worker, event: Gone, *, begun: bool) -> None:
    """Pay for a loss, and see whether the run can go on. ``begun``: the worker's generation was
    training.
    """
    run = turn.run
    verdict = recovery.after_loss(
        event.cause, event.detail, worker.node, run.step, begun, run.budgets, run.streak, turn.now_s
    )
    together = verdict.budgets.spent(turn.now_s) == run.budgets.spent(turn.now_s)
    turn.set(budgets=verdict.budgets, streak=verdict.streak, failures=run.failures + (not together))
    if run.ending is not None:
        return
    # A worker that can't load may lie on a bad node: others that say the same show that it doesn't,
    # one that has loaded that it does
    enough = min(recovery.START_ERROR_LIMIT, run.target + run.policy.sizes.standby)
    agreed = verdict.streak.times >= enough and not turn.alive(Stage.WARM, Stage.MEMBER)
    if event.error is not None and (worker.stage is not Stage.STARTING or agreed):
        turn.set(
            ending=Ending(
                Outcome.FAILED, event.detail, turn.now_s + ending.LAST_SAVE_S, error=event.error
            )
        )
        turn.note(GaveUp(reason=event.detail))
    elif isinstance(verdict, recovery.GiveUp):
        give_up(turn, verdict.reason)


def give_up(turn: Turn, reason: str) -> None:
    """End the run after a last save, since going on would fail again."""
    told = reason + last_cause(turn.run)
    error = RecoveryExhausted(
        told, remedy="See `tfresume report`; the same command goes on from the last checkpoint"
    ).as_dict()
    turn.set(ending=Ending(Outcome.FAILED, told, turn.now_s + ending.LAST_SAVE_S, error=error))
    turn.note(GaveUp(reason=told))


def last_cause(run: Run) -> str:
    """What went wrong last, as the end of a sentence; empty where nothing has."""
    return f"; the last time: {run.last_cause}" if run.last_cause else ""


def open_incident(
    turn: Turn, kind: str, worker: Worker | None, rank: int | None, detail: str
) -> None:
    """Begin an incident, or say more exactly what the one that has begun is about."""
    run = turn.run
    if run.incident is None:
        began_s = (
            min(turn.now_s, run.moved_s) if kind == Cause.HUNG.value and run.moved_s else turn.now_s
        )
        incident = Incident(
            kind,
            rank,
            worker.node if worker else "",
            worker.ident if worker else "",
            began_s,
            turn.now_s,
            run.highest,
            run.world_size,
            detail,
        )
        turn.set(incident=incident)
    elif run.incident.rank is None and rank is not None:
        node, ident = (worker.node, worker.ident) if worker else ("", "")
        turn.set(
            incident=replace(
                run.incident, kind=kind, rank=rank, node=node, worker=ident, detail=detail
            )
        )
