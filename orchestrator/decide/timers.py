"""What follows from time having passed?

Rule: silence is judged by the driver's own clock, and not right after the driver itself was
standing still (a paused driver would else find everybody silent and kill them all). Who moves state
is judged by its bytes (``progress``).
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import (
    ending,
    forming,
    joining,
    leases,
    membership,
    progress,
    saves,
    searching,
    stepping,
)
from orchestrator.decide.actions import BreakStep, EndWorker, Outcome
from orchestrator.decide.events import Cause, Doing
from orchestrator.decide.run import Ending, Phase, Stage, Worker
from orchestrator.decide.turn import Turn
from orchestrator.errors import PlacementError
from orchestrator.journal.group_events import StepBroken
from orchestrator.journal.run_events import DeadlinePassed, DriverPaused, GaveUp
from orchestrator.journal.worker_events import WorkerHung

PAUSE_S = 1.5
"""A gap between two ticks (a quarter of a second apart) from which on the driver itself must have
stood still.
"""
TICK_S = 0.25
"""How often the loop looks at the clock; bounds are met, not overrun, by it."""
GATHER_S = 10.0
START_S = 600.0
"""Longest time from a worker's first sign of life until it's warm: importing TensorFlow took 10 s
where it was slow.
"""
INPUT_S = 60.0
"""A slow input isn't a hang before this: shuffle buffers fill, caches are cold."""


def on_tick(turn: Turn) -> None:
    """Look at every deadline."""
    run = turn.run
    gap_s = 0.0 if run.ticked_s is None else turn.now_s - run.ticked_s
    turn.set(ticked_s=turn.now_s)
    if gap_s > PAUSE_S:
        turn.note(DriverPaused(seconds=round(gap_s, 3)))
        turn.workers(
            {
                ident: replace(worker, heard_s=turn.now_s, moved_s=turn.now_s)
                for ident, worker in run.workers.items()
            }
        )
        turn.set(moved_s=turn.now_s, since_s=turn.now_s)
    if run.phase is Phase.ENDED:
        return
    if ending.is_overdue(turn.run, turn.now_s):
        turn.note(DeadlinePassed(reason="no time is left for the last save"))
        ending.finish(turn)
        return
    _silence(turn)
    _starting(turn)
    _phase_deadline(turn)
    saves.give_up_stuck(turn)
    _what_waited(turn)


def _what_waited(turn: Turn) -> None:
    """What had to wait for a while and may go on now."""
    searching.again(turn)
    forming.settle(turn)
    joining.let_go(turn)
    stepping.grant(turn)
    stepping.boundary(turn)


def _silence(turn: Turn) -> None:
    bound_s = leases.silence_bound_s(turn.run.policy.hang_floor_s)
    for worker in turn.run.workers.values():
        if worker.stage is not Stage.STARTING and turn.now_s - worker.heard_s > bound_s - TICK_S:
            _end_hung(turn, worker, f"no sign of life for {turn.now_s - worker.heard_s:.1f} s")


def _starting(turn: Turn) -> None:
    """A worker whose process runs gets warm within START_S; one that found no room for ``wait_s``
    is asked for anew.
    """
    for worker in turn.alive(Stage.STARTING):
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
            turn.act(
                EndWorker(
                    worker.ident, Cause.RELEASED.value, f"it hasn't started within {waited_s:.0f} s"
                )
            )


def _end_hung(turn: Turn, worker: Worker, detail: str) -> None:
    turn.note(
        WorkerHung(
            worker=worker.ident,
            rank=turn.run.rank_of(worker.ident),
            node=worker.node,
            reason=detail,
        )
    )
    turn.worker(worker.ident, heard_s=turn.now_s)
    turn.act(EndWorker(worker.ident, Cause.HUNG.value, detail))


def _phase_deadline(turn: Turn) -> None:
    run = turn.run
    match run.phase:
        case Phase.TRAINING:
            _stuck(turn)
        case Phase.GATHERING:
            bound_s = max(
                GATHER_S,
                leases.hang_bound_s(run.step_time_s, run.policy.hang_floor_s, stepped=True),
            )
            _end_all(
                turn,
                progress.slow_to_hold(run, turn.now_s, bound_s),
                "didn't stop at a step boundary",
            )
        case Phase.FORMING:
            _end_all(turn, progress.slow_to_join(run, turn.now_s), "didn't join, and nothing moves")
        case Phase.WAITING:
            if turn.now_s - run.since_s > run.policy.wait_s and run.ending is None:
                _give_up_waiting(turn)
        case Phase.FINDING | Phase.ENDED:
            pass


def _end_all(turn: Turn, idents: list[str], detail: str) -> None:
    for ident in idents:
        _end_hung(turn, turn.run.workers[ident], detail)
        turn.worker(ident, moved_s=turn.now_s)
    if idents:
        turn.set(since_s=turn.now_s)


def _stuck(turn: Turn) -> None:
    run = turn.run
    if run.step >= run.lease_end:
        return
    if any(
        run.workers[ident].doing is Doing.COPYING
        and progress.is_moving(run, run.workers[ident], turn.now_s)
        for ident in run.members
    ):
        turn.set(moved_s=turn.now_s)  # the others' step waits for the one that copies its state
        return
    still_s = turn.now_s - run.moved_s
    if (
        still_s
        <= leases.hang_bound_s(run.step_time_s, run.policy.hang_floor_s, run.stepped) - TICK_S
    ):
        return
    detail = f"step {run.step + 1} hasn't ended for {still_s:.1f} s"
    outside = [
        ident
        for ident in run.members
        if run.workers[ident].doing is not Doing.STEP
        and (run.workers[ident].step or 0) < run.lease_end
    ]
    if any(run.workers[ident].doing is Doing.INPUT for ident in outside) and still_s < INPUT_S:
        return
    if outside:
        _end_all(turn, outside, f"{detail}; the others wait for it")
    elif not run.broke_step:
        turn.set(broke_step=True)
        turn.note(StepBroken(reason=f"{detail}; all members are inside it"))
        turn.act(BreakStep(run.members[0], run.generation))
    elif still_s > 2 * leases.hang_bound_s(run.step_time_s, run.policy.hang_floor_s, run.stepped):
        _end_all(turn, list(run.members), f"{detail}; breaking it off didn't help")
    turn.set(moved_s=run.moved_s)


def _give_up_waiting(turn: Turn) -> None:
    run = turn.run
    reason = (
        f"no room for {run.policy.sizes.smallest} workers within {run.policy.wait_s:.0f} s"
        + membership.last_cause(run)
    )
    error = PlacementError(
        reason,
        remedy="Add nodes, lower --workers, or raise wait_s; the same command goes on from here",
    ).as_dict()
    turn.set(ending=Ending(Outcome.FAILED, reason, turn.now_s + ending.LAST_SAVE_S, error=error))
    turn.note(GaveUp(reason=reason))
    forming.settle(turn)
