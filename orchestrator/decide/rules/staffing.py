"""Are workers to be started?

Rule: lost capacity is asked for again at once, with a back-off that grows with the failures since
the last finished step; what the cluster has room for is asked for while the group trains.
"""

from __future__ import annotations

from orchestrator.decide import budgets, crew, scaling
from orchestrator.decide.actions import StartWorker
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.run import Run
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
    count = scaling.missing(run.policy.sizes, run.target, run.workers.tally.staying)
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
    workers = run.workers
    # The places of processes that are used up become free only when their state has passed
    held_up = workers.tally.spent > 0
    least_s = _recovering_s(run)
    for number in range(run.next_worker, run.next_worker + count):
        ident = f"w{number:04d}"
        backoff_s = budgets.backoff_s(run.failures, ident)
        delay_s = max(backoff_s, _start_backoff_s(run, ident), least_s)
        standby = held_up or workers.tally.staying >= run.target
        begins_s = turn.now_s + delay_s
        workers = workers.put(
            Worker(ident, Stage.STARTING, since_s=begins_s, heard_s=begins_s, moved_s=begins_s)
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
    tally = run.workers.tally
    complete = len(run.members) - tally.going + tally.standbys >= run.target
    recovering = run.incident is not None and run.started and complete
    return STANDBY_AFTER_S if recovering else 0.0
