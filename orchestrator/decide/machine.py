"""What does the driver do about what it has just learned?

Rule: ``advance`` is a pure function of the run, one event and the clock. The driver's loop is:
observe, ``advance``, write down, act. The simulation in ``tests/simulation`` drives the very same
function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from orchestrator.decide import (
    aftermath,
    ending,
    events,
    forming,
    joining,
    membership,
    saves,
    searching,
    stepping,
    timers,
)
from orchestrator.decide.actions import Action, EndWorker, Grant
from orchestrator.decide.aftermath import LeftBehind
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.events import Doing, Event, Found
from orchestrator.decide.run import Phase, Policy, Run, Stage, Worker
from orchestrator.decide.saving import SaveLog
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import WorkersAdopted


def advance(run: Run, event: Event, now_s: float) -> tuple[Run, tuple[Action, ...]]:
    """The run after ``event``, and what is to be done. After the end, nothing is."""
    if run.phase is Phase.ENDED:
        return run, ()
    turn = Turn(run, now_s)
    _dispatch(turn, event)
    return turn.run, tuple(turn.actions)


def _dispatch(turn: Turn, event: Event) -> None:
    match event:
        case events.Pulse():
            stepping.on_pulse(turn, event)
        case events.Tick():
            timers.on_tick(turn)
        case events.Warm():
            membership.on_warm(turn, event)
        case events.Gone():
            membership.on_gone(turn, event)
        case events.Held():
            forming.on_held(turn, event)
        case events.Joined():
            joining.on_joined(turn, event)
        case events.JoinFailed():
            joining.on_join_failed(turn, event)
        case _:
            _dispatch_rare(turn, event)


def _dispatch_rare(
    turn: Turn,
    event: events.SaveWritten
    | events.SaveChecked
    | events.SaveFailed
    | events.Committed
    | events.UserFailed
    | events.DataEnded
    | events.Notice
    | events.Draining
    | events.Found
    | events.Room
    | events.StopAsked
    | events.Fenced,
) -> None:
    match event:
        case events.SaveWritten():
            saves.on_written(turn, event)
        case events.SaveChecked():
            saves.on_checked(turn, event)
        case events.SaveFailed():
            saves.on_save_failed(turn, event)
        case events.Committed():
            saves.on_committed(turn, event)
        case events.UserFailed():
            ending.on_user_failed(turn, event)
        case events.DataEnded():
            ending.on_data_ended(turn, event)
        case events.Notice():
            membership.on_notice(turn, event)
        case events.Draining():
            membership.on_draining(turn, event)
        case events.Found():
            searching.on_found(turn, event)
        case events.Room():
            membership.on_room(turn, event)
        case events.StopAsked():
            ending.on_stop(turn, event)
        case events.Fenced():
            ending.on_fenced(turn, event)
        case _:
            assert_never(event)


def begin(
    policy: Policy,
    origin: Found,
    committed: int | None,
    budgets: Budgets,
    generation: int,
    now_s: float,
    next_worker: int = 1,
    left: LeftBehind | None = None,
) -> tuple[Run, tuple[Action, ...]]:
    """A run that starts from a checkpoint, with no worker yet.

    Args:
        origin: the checkpoint to start from.
        committed: its step if it's a checkpoint of this run's own output, else None.
        generation: the highest number that any earlier generation of this output had; 0 for a fresh
            one.
        next_worker: the first number for an identity that was never used.
        left: what an earlier driver had going when it died; none of its workers lives.
    """
    step = origin.step or 0
    log = SaveLog(last_step=step, last_s=now_s, committed=committed)
    run = Run(
        policy,
        budgets,
        log,
        since_s=now_s,
        generation=generation,
        step=step,
        highest=step,
        position=origin.position,
        lease_end=step,
        origin=origin,
        target=policy.sizes.count,
        moved_s=now_s,
        next_worker=next_worker,
    )
    turn = Turn(run, now_s)
    aftermath.account(turn, left, ())
    membership.staff(turn)
    return turn.run, tuple(turn.actions)


@dataclass(frozen=True)
class Report:
    """What a living worker says of itself to a new driver.

    Attributes:
        lease_end: the highest that it was ever granted.
        devices: the GPUs that it trains on, or was given by Ray.
        group: the placement group that it lies in; ``lent_group`` the one whose GPUs it took, where
            that is another.
    """

    worker: str
    node: str
    pid: int
    address: str
    generation: int
    rank: int | None
    world_size: int
    step: int | None
    position: int
    lease_end: int
    held: bool
    joined: bool
    loaded: bool
    devices: tuple[str, ...] = ()
    group: str = ""
    lent_group: str = ""


def adopt(
    policy: Policy,
    reports: Sequence[Report],
    committed: int | None,
    budgets: Budgets,
    generation: int,
    next_worker: int,
    now_s: float,
    rolled_back: tuple[int | None, int] = (None, 0),
    left: LeftBehind | None = None,
) -> tuple[Run, tuple[Action, ...]]:
    """A run taken over from a driver that died, with the workers that live, at their live step.

    A complete group that is training goes on as it is, leases being extended from the highest end
    that anybody was granted. Otherwise its members are gathered. ``generation`` is the highest
    number that the journal knows, ``rolled_back`` what ``searching.rolled_back`` found in it,
    ``left`` what the driver that died had going.
    """
    reports = [_without_tainted(report, rolled_back[1]) for report in reports]
    ranked = sorted(
        (report for report in reports if report.rank is not None),
        key=lambda item: (-item.generation, item.rank or 0),
    )
    newest = ranked[0].generation if ranked else 0
    group = [report for report in ranked if report.generation == newest]
    complete = (
        bool(group)
        and len(group) == group[0].world_size
        and all(report.joined and not report.held for report in group)
    )
    if not complete:
        # whoever has a state, also of a generation before the one that was being formed
        group = ranked
    members = tuple(report.worker for report in group)
    steps = [report.step for report in group if report.step is not None]
    step, highest = (min(steps), max(steps)) if steps else (0, 0)
    run = Run(
        policy,
        budgets,
        SaveLog(last_step=step, last_s=now_s, committed=committed, owed=True),
        since_s=now_s,
        phase=Phase.TRAINING,
        workers={report.worker: _adopted(report, now_s, rolled_back[1]) for report in reports},
        rolled_back_from=rolled_back[0],
        next_worker=next_worker,
        generation=newest,
        used_generation=generation,
        seats=members,
        members=members,
        step=step,
        highest=highest,
        lease_end=max((report.lease_end for report in group), default=0),
        fastest=highest,
        laggards=steps.count(step),
        target=policy.sizes.count,
        moved_s=now_s,
        started=bool(steps),
    )
    turn = Turn(run, now_s)
    turn.note(
        WorkersAdopted(
            workers=tuple(report.worker for report in reports),
            members=tuple(members),
            generation=newest,
            complete=complete,
            step=step,
        )
    )
    aftermath.account(turn, left, run.workers)
    if complete:
        for report in ranked[len(group) :]:
            turn.act(EndWorker(report.worker, events.Cause.RELEASED.value, "its rank has moved on"))
        turn.set(
            target=max(policy.sizes.count, len(members))
            if policy.sizes.on_loss != "shrink"
            else len(members)
        )
        membership.staff(turn)
        stepping.grant(turn)
        if turn.run.lease_end == run.lease_end and any(
            report.lease_end < run.lease_end for report in group
        ):
            # A grant died with its driver: some would stand at its end for ever, and the others'
            # step wait for them
            turn.act(Grant(newest, members, run.lease_end, (), members[0]))
        stepping.boundary(turn)
    else:
        forming.gather(turn, "the driver died, and so did a part of the group")
        membership.staff(turn)
    return turn.run, tuple(turn.actions)


def _is_tainted(report: Report, until: int) -> bool:
    return report.rank is not None and report.generation <= until


def _without_tainted(report: Report, until: int) -> Report:
    """The report of a worker that may still hold a state that was rolled back from: that state
    counts for nothing.
    """
    return replace(report, step=None, joined=False) if _is_tainted(report, until) else report


def _adopted(report: Report, now_s: float, tainted_until: int) -> Worker:
    member = report.rank is not None
    stage = Stage.MEMBER if member else Stage.WARM if report.loaded else Stage.STARTING
    doing = (
        Doing.LOADING
        if stage is Stage.STARTING
        else Doing.JOINING
        if member and not report.joined
        else Doing.IDLE
    )
    return Worker(
        report.worker,
        stage,
        since_s=now_s,
        heard_s=now_s,
        node=report.node,
        pid=report.pid,
        address=report.address,
        step=report.step,
        position=report.position,
        held=report.held,
        joined=report.joined,
        doing=doing,
        generation=report.generation,
        moved_s=now_s,
        tainted=_is_tainted(report, tainted_until),
    )
