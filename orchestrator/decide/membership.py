"""What follows when a worker appears, is about to go, or is gone?

Rule: every loss is judged once (``recovery.after_loss``), paid for once (``budgets``), and written down with its reason. Lost capacity is
asked for again at once, with a back-off that grows with the failures since the last finished step.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import budgets, forming, recovery, saves, scaling
from orchestrator.decide.actions import EndWorker, Outcome, StartWorker
from orchestrator.decide.events import Cause, Draining, Gone, Notice, Room, Warm
from orchestrator.decide.run import Ending, Incident, Phase, Stage, Worker
from orchestrator.decide.turn import Turn
from orchestrator.errors import RecoveryExhausted


def staff(turn: Turn, extra: int = 0) -> None:
    """Start the workers that the run lacks, and ``extra`` more to grow."""
    run = turn.run
    if run.ending is not None or run.phase is Phase.ENDED:
        return
    staying = sum(1 for worker in run.workers.values() if not worker.leaving)
    due = any(worker.reforms >= run.policy.reforms_per_process for worker in run.workers.values())
    count = scaling.missing(run.policy.sizes, run.target, staying, due) + extra
    avoid = run.budgets.excluded_nodes(turn.now_s)
    workers = dict(run.workers)
    for number in range(run.next_worker, run.next_worker + count):
        ident = f"w{number:04d}"
        delay_s = budgets.backoff_s(run.failures, ident)
        # The places of processes that are used up become free only when their state has passed
        held_up = any(worker.spent for worker in workers.values())
        standby = held_up or sum(1 for worker in workers.values() if not worker.leaving) >= run.target
        workers[ident] = Worker(ident, Stage.STARTING, since_s=turn.now_s, heard_s=turn.now_s)
        turn.act(StartWorker(ident, delay_s, avoid, standby))
        turn.note("worker_start", worker=ident, delay_s=round(delay_s, 3), avoid=list(avoid), standby=standby)
    turn.set(workers=workers, next_worker=run.next_worker + count)


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
    )
    turn.note("worker_warm", worker=event.worker, node=event.node, pid=event.pid, seconds=round(seconds, 3))
    match turn.run.phase:
        case Phase.WAITING | Phase.GATHERING:
            forming.settle(turn)
        case Phase.TRAINING:
            consider_reform(turn)
        case Phase.FINDING | Phase.FORMING | Phase.ENDED:
            pass


def consider_reform(turn: Turn) -> None:
    """Plan a re-form at the next boundary where a warm worker can do something better than wait."""
    run = turn.run
    if run.reform or run.ending is not None or run.phase is not Phase.TRAINING:
        return
    warm = [worker for worker in turn.alive(Stage.WARM) if not worker.leaving]
    if not warm:
        return
    staying = [run.workers[ident] for ident in run.members if not run.workers[ident].leaving]
    size = scaling.group_size(run.policy.sizes, run.target, True, len(staying), len(warm))
    if len(staying) < len(run.members):
        plan_reform(turn, "a worker is about to go, another is warm")
    elif any(worker.reforms >= run.policy.reforms_per_process for worker in staying):
        plan_reform(turn, f"a worker was re-formed {run.policy.reforms_per_process} times and hands over to a fresh process")
    elif size is not None and size > run.world_size:
        plan_reform(turn, f"grow from {run.world_size} to {size} workers")


def plan_reform(turn: Turn, reason: str) -> None:
    """Let the leases run out and form anew at their end."""
    turn.set(reform=reason)
    turn.note("reform_planned", reason=reason, boundary=turn.run.lease_end)


def on_notice(turn: Turn, event: Notice) -> None:
    """A worker will be ended soon: hand over while it lives, or save just in time."""
    worker = turn.run.workers.get(event.worker)
    if worker is None or worker.leaving:
        return
    turn.worker(event.worker, leaving=True)
    turn.note("worker_notice", worker=event.worker, rank=turn.run.rank_of(event.worker), node=worker.node, reason=event.detail)
    staff(turn)
    run = turn.run
    if event.worker not in run.members or run.phase is not Phase.TRAINING or run.ending is not None:
        return
    staying = sum(1 for ident in run.members if not run.workers[ident].leaving)
    warm = sum(1 for other in turn.alive(Stage.WARM) if not other.leaving)
    if scaling.group_size(run.policy.sizes, run.target, True, staying, warm) is not None:
        plan_reform(turn, f"{event.worker} is about to go: {event.detail}")
    else:
        turn.set(saves=replace(run.saves, owed=True))
        turn.note("save_owed", reason="nobody can take over yet", worker=event.worker)


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
            turn.note("growing", workers=extra, free=event.free)
            staff(turn, extra)


def on_gone(turn: Turn, event: Gone) -> None:
    """A worker is no more."""
    run = turn.run
    worker = run.workers.get(event.worker)
    if worker is None:
        return
    rank = run.rank_of(event.worker) if event.worker in run.members else None
    cause = Cause.PREEMPTED if worker.leaving and event.cause is Cause.DIED else event.cause
    turn.set(workers={ident: other for ident, other in run.workers.items() if ident != event.worker})
    if cause is Cause.RELEASED and rank is None:
        turn.note("worker_released", worker=event.worker, reason=event.detail)
        staff(turn)
        return
    turn.note(
        "worker_lost", worker=event.worker, rank=rank, node=worker.node, pid=worker.pid, cause=cause.value, reason=event.detail,
        step=worker.step, phase=run.phase.value,
    )  # fmt: skip
    _judge(turn, worker, cause, event.detail, member=rank is not None)
    if event.error is not None and turn.run.ending is None:
        turn.set(ending=Ending(Outcome.FAILED, event.detail, turn.now_s + 120.0, error=event.error))
        turn.note("give_up", reason=event.detail)
        forming.settle(turn)
    if rank is not None:
        open_incident(turn, cause.value, worker, rank, event.detail)
        turn.set(members=tuple(ident for ident in run.members if ident != event.worker))
        saves.on_member_gone(turn, event.worker)
        forming.gather(turn, f"{event.worker} (rank {rank}) is gone: {cause.value}")
    staff(turn)


def _judge(turn: Turn, worker: Worker, cause: Cause, detail: str, member: bool) -> None:
    run = turn.run
    begun = member and run.phase is Phase.TRAINING
    verdict = recovery.after_loss(cause, detail, worker.node, run.step, begun, run.budgets, run.streak, turn.now_s)
    failures = run.failures + (cause not in (Cause.PREEMPTED, Cause.RELEASED))
    turn.set(budgets=verdict.budgets, streak=verdict.streak, failures=failures)
    if isinstance(verdict, recovery.GiveUp) and run.ending is None:
        give_up(turn, verdict.reason)


def give_up(turn: Turn, reason: str) -> None:
    """End the run after a last save, since going on would fail again."""
    error = RecoveryExhausted(reason, remedy="See `tfresume report`; the same command goes on from the last checkpoint").as_dict()
    turn.set(ending=Ending(Outcome.FAILED, reason, turn.now_s + 120.0, error=error))
    turn.note("give_up", reason=reason)


def open_incident(turn: Turn, kind: str, worker: Worker | None, rank: int | None, detail: str) -> None:
    """Begin an incident, or say more exactly what the one that has begun is about."""
    run = turn.run
    if run.incident is None:
        began_s = min(turn.now_s, run.moved_s) if kind == Cause.HUNG.value and run.moved_s else turn.now_s
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
        turn.set(incident=replace(run.incident, kind=kind, rank=rank, node=node, worker=ident, detail=detail))
