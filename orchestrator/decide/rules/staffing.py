"""Are workers to be started?

Rule: lost capacity is asked for again at once, with a back-off that grows with the failures since
the last finished step; what the cluster has room for is asked for while the group trains.
"""

from __future__ import annotations

from orchestrator.decide import budgets, crew, scaling
from orchestrator.decide.actions import StartWorker
from orchestrator.decide.run import Run, Stage, Worker
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import Growing
from orchestrator.journal.worker_events import WorkerStarted

STANDBY_AFTER_S = 1.0
"""A take-over by a standby is over by then, as a rule; until then a new standby would only compete
with it for the processor.
"""


def staff(turn: Turn) -> None:
    """Start the workers that the run lacks, and more of them where there is room to grow."""
    run = turn.run
    if run.ending is not None:
        return
    staying = [worker.leaving for worker in run.workers.values()].count(False)
    count = scaling.missing(run.policy.sizes, run.target, staying)
    if run.room:
        extra = scaling.growth(run.policy.sizes, len(run.workers), run.room)
        turn.set(room=0)
        if extra:
            turn.note(Growing(workers=extra, free=run.room))
        count += extra
    if count:
        _start(turn, count)


def _start(turn: Turn, count: int) -> None:
    run = turn.run
    avoid = run.budgets.excluded_nodes(turn.now_s)
    # Whoever starts before the run has trained fetches the checkpoint while TensorFlow loads; later
    # a member has the state
    stage = run.origin is not None and not run.started
    workers = dict(run.workers)
    # The places of processes that are used up become free only when their state has passed
    held_up = any(worker.spent for worker in workers.values())
    staying = sum(1 for worker in workers.values() if not worker.leaving)
    for number in range(run.next_worker, run.next_worker + count):
        ident = f"w{number:04d}"
        delay_s = max(
            budgets.backoff_s(run.failures, ident), _start_backoff_s(run, ident), _recovering_s(run)
        )
        standby = held_up or staying >= run.target
        staying += 1
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


def _start_backoff_s(run: Run, ident: str) -> float:
    longest_s = (
        budgets.LONGEST_START_BACKOFF_S
        if crew.goes_on_without_more(run)
        else budgets.LONGEST_BACKOFF_S
    )
    return budgets.backoff_s(run.start_failures, ident, longest_s)


def _recovering_s(run: Run) -> float:
    """How long a new process waits for a group that is being formed, or has just been, without it:
    loading takes seconds of a processor.
    """
    staying = sum(1 for ident in run.members if not run.workers[ident].leaving)
    complete = staying + len(crew.standbys(run)) >= run.target
    recovering = run.incident is not None and run.started and complete
    return STANDBY_AFTER_S if recovering else 0.0
