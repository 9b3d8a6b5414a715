"""What follows from time having passed?

Rule: silence is judged by the driver's own clock, whenever it has just looked at it. Who moves state
is judged by its bytes (``progress``).
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import crew, endings, hang_bounds, progress, save_under_way
from orchestrator.decide.actions import BreakStep
from orchestrator.decide.causes import Cause
from orchestrator.decide.doing import Doing
from orchestrator.decide.phases import Phase
from orchestrator.decide.progress import SAVE_STILL_S
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn
from orchestrator.errors import PlacementError
from orchestrator.journal.group_events import CounterStands, StepBroken
from orchestrator.journal.worker_events import WorkerHung

TICK_S = 0.25
"""How often the loop looks at the clock; bounds are met, not overrun, by it."""
GATHER_S = 10.0
"""Longest wait for members to stop between two steps, where steps are so short that the bound for a
hanging one says less: a member may be in the midst of a copy of its state.
"""
START_S = 600.0
"""Longest time from a worker's first sign of life until it's warm: importing TensorFlow took 10 s
where it was slow.
"""
STANDING_S = 60.0
"""A counter that stands still for so long is told: loss scaling skips a few steps, gradients are
gathered over some.
"""
INPUT_S = 60.0
"""A slow input isn't a hang before this: shuffle buffers fill, caches are cold."""
REMEDY = "Where a step may take so long, give --hang-floor-s SECONDS"


def look(turn: Turn) -> None:
    """Look at every deadline."""
    # At ticks only: between two events of one moment nothing can have come late
    if turn.run.ticked_s != turn.now_s:
        return
    if turn.run.ending is not None and is_overdue(turn.run, turn.now_s):
        endings.out_of_time(turn, turn.run.ending)
        return
    _silence(turn)
    _starting(turn)
    _phase_deadline(turn)
    _stuck_save(turn)
    _standing(turn)


def _standing(turn: Turn) -> None:
    """Say once that the graph's own counter stands still, though the group trains: what follows the
    step (its end, saves by steps) doesn't come meanwhile.
    """
    run = turn.run
    still_s = run.moved_s - run.counted_s  # a step that lasts says nothing of the counter
    if run.phase is Phase.TRAINING and run.stepped and not run.standing and still_s >= STANDING_S:
        turn.set(standing=True)
        turn.note(CounterStands(step=run.step, position=run.position, seconds=round(still_s, 1)))


def is_overdue(run: Run, now_s: float) -> bool:
    """Whether the run has to end now, saved or not: a last save that still moves gets its time
    unless somebody kills us.
    """
    how = run.ending
    if how is None or how.at_once or how.deadline_s is None or now_s < how.deadline_s:
        return False
    awaited = save_under_way.awaited(run)
    saving = any(now_s - run.workers[ident].moved_s <= SAVE_STILL_S for ident in awaited)
    fetched = progress.fetched_s(run)
    copying = any(progress.is_moving(run.workers[ident], fetched, now_s) for ident in run.members)
    return how.hard or not (saving or copying)


def _silence(turn: Turn) -> None:
    run = turn.run
    bound_s = hang_bounds.silence_bound_s(run)
    for worker in run.workers.values():
        if worker.stage is not Stage.STARTING and turn.now_s - worker.heard_s > bound_s - TICK_S:
            _end_hung(turn, worker, f"no sign of life for {turn.now_s - worker.heard_s:.1f} s")


def _starting(turn: Turn) -> None:
    """A worker whose process runs gets warm within START_S; one that found no room for ``wait_s``
    is asked for anew.
    """
    for worker in crew.in_stage(turn.run, Stage.STARTING):
        waited_s = turn.now_s - worker.since_s
        if worker.doing is Doing.LOADING:
            if waited_s > START_S:
                turn.worker(worker.ident, since_s=turn.now_s)
                _end_hung(
                    turn,
                    worker,
                    f"it hasn't loaded TensorFlow and the graph within {waited_s:.0f} s",
                )
        elif waited_s > turn.run.policy.wait_s and turn.run.phase is not Phase.WAITING:
            turn.worker(worker.ident, since_s=turn.now_s)
            told = f"it hasn't started within {waited_s:.0f} s"
            turn.end_worker(worker.ident, Cause.RELEASED, told)


def _end_hung(turn: Turn, worker: Worker, detail: str) -> None:
    if turn.is_ending(worker.ident):
        return
    turn.note(
        WorkerHung(
            worker=worker.ident,
            rank=turn.run.rank_of(worker.ident),
            node=worker.node,
            reason=detail,
        )
    )
    # As if heard of now, or it would be found hung again at each tick until its death is told
    turn.worker(worker.ident, heard_s=turn.now_s)
    turn.end_worker(worker.ident, Cause.HUNG, detail)


def _phase_deadline(turn: Turn) -> None:
    run = turn.run
    match run.phase:
        case Phase.TRAINING:
            _stuck(turn)
        case Phase.GATHERING:
            bound_s = max(GATHER_S, hang_bounds.hang_bound_s(run, stepped=True))
            late = progress.slow_to_hold(run, turn.now_s, bound_s)
            inside = [ident for ident in late if run.workers[ident].doing is Doing.COMPUTING]
            if not hang_bounds.may_go_on(run, inside, run.since_s, turn.now_s, TICK_S):
                inside = []
            patient = frozenset(inside)
            late = [ident for ident in late if ident not in patient]
            _suspect(turn, late, "didn't stop at a step boundary")
        case Phase.FORMING:
            _end_all(turn, progress.slow_to_join(run, turn.now_s), "didn't join, and nothing moves")
        case Phase.WAITING:
            if turn.now_s - run.since_s > run.policy.wait_s and run.ending is None:
                _give_up_waiting(turn)
        case Phase.FINDING | Phase.ENDED:
            pass


def _end_all(turn: Turn, idents: list[str], detail: str) -> None:
    late = [ident for ident in idents if not turn.is_ending(ident)]
    for ident in late:
        _end_hung(turn, turn.run.workers[ident], detail)
        turn.worker(ident, moved_s=turn.now_s)
    if late:
        turn.set(since_s=turn.now_s)


def _stuck(turn: Turn) -> None:
    run = turn.run
    if run.is_at_boundary:
        return
    if any(
        run.workers[ident].doing in (Doing.COPYING, Doing.SAVING)
        and progress.is_moving(run.workers[ident], {}, turn.now_s)
        for ident in run.members
    ):
        # the others' step waits for the one that copies its state, or sends it from where it lies
        if run.moved_s != turn.now_s:
            turn.set(moved_s=turn.now_s)
        return
    still_s = turn.now_s - run.moved_s
    if turn.now_s - hang_bounds.last_turn_s(run) <= hang_bounds.hang_bound_s(run) - TICK_S:
        return
    detail = f"step {run.step + 1} hasn't ended for {still_s:.1f} s"
    outside = [
        ident
        for ident in run.members
        if run.workers[ident].doing not in (Doing.STEP, Doing.COMPUTING)
        and run.may_step(run.workers[ident].step or 0, run.workers[ident].position)
    ]
    # Reading takes what it takes; ending the reader would only begin the same reading anew
    if any(run.workers[ident].doing is Doing.INPUT for ident in outside) and still_s < INPUT_S:
        return
    # Whoever isn't inside the step is what the others wait for; and so is one that is inside the
    # session's run for longer than any step takes. If all wait for each other, none can be told from
    # the others: the step is broken off, and who doesn't stop then is the one
    inside = hang_bounds.computing(run)
    if hang_bounds.may_go_on(run, inside, run.moved_s, turn.now_s, TICK_S):
        return
    if outside:
        _suspect(turn, outside, f"{detail}; the others wait for it")
    elif inside and len(inside) < len(run.members):
        _suspect(turn, inside, f"{detail}; it stands in the graph, and the others wait. {REMEDY}")
    elif not run.broke_step:
        turn.set(broke_step=True)
        _count_suspicion(turn)
        turn.note(StepBroken(reason=f"{detail}; all members are inside it"))
        turn.act(BreakStep(run.members[0], run.generation))
    else:
        _suspect(turn, list(run.members), f"{detail}; breaking it off didn't help. {REMEDY}")


def _suspect(turn: Turn, idents: list[str], detail: str) -> None:
    """End members that a step waits for; the same step gets twice the time when it comes again."""
    if any(not turn.is_ending(ident) for ident in idents):
        _count_suspicion(turn)
    _end_all(turn, idents, detail)


def _count_suspicion(turn: Turn) -> None:
    turn.set(suspicions=turn.run.suspicions + 1, suspected=turn.run.place)


def _give_up_waiting(turn: Turn) -> None:
    run = turn.run
    room = f"no room for {run.policy.sizes.smallest} workers within {run.policy.wait_s:.0f} s"
    reason = room + endings.last_cause(run)
    remedy = "Add nodes, lower --workers, or raise wait_s; the same command goes on from here"
    endings.give_up(turn, reason, PlacementError(reason, remedy=remedy).as_dict())


def _stuck_save(turn: Turn) -> None:
    """A save that nobody moves any more has failed."""
    flight = turn.run.saves.in_flight
    waiting_for = save_under_way.awaited(turn.run)
    if flight is None or not waiting_for:
        return
    if turn.run.phase is Phase.TRAINING and not flight.is_reached(*turn.run.place):
        # The group trains on the way to it, however long that takes
        if flight.since_s != turn.now_s:
            begins = replace(flight, since_s=turn.now_s)
            turn.set(saves=replace(turn.run.saves, in_flight=begins))
        return
    latest_s = max(turn.run.workers[ident].moved_s for ident in waiting_for)
    still_s = turn.now_s - max(flight.since_s, latest_s)
    if still_s > SAVE_STILL_S:
        told = f"nothing has moved in {', '.join(waiting_for[:3])} for {still_s:.0f} s"
        save_under_way.fail(turn, told)
