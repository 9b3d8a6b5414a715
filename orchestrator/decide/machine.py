"""What does the driver do about what it has just learned?

Rule: ``advance`` is a pure function of the run, one event and the clock. The event's fact changes the
run, then the rules are applied until none has anything to do. The driver's loop is: observe,
``advance``, write down, act. The simulation in ``tests/simulation`` drives the very same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.decide import aftermath, save_under_way
from orchestrator.decide.actions import Action, Grant
from orchestrator.decide.aftermath import LeftBehind
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.doing import Doing
from orchestrator.decide.events import Event, Found
from orchestrator.decide.facts.table import HANDLERS
from orchestrator.decide.incident import DRIVER
from orchestrator.decide.phases import Phase
from orchestrator.decide.policy import Policy
from orchestrator.decide.reconcile import reconcile
from orchestrator.decide.roster import Roster, Stage, Worker
from orchestrator.decide.rules.gathering import use_up
from orchestrator.decide.run import Run
from orchestrator.decide.save_policy import SaveLog
from orchestrator.decide.turn import Turn
from orchestrator.journal.group_events import WorkersAdopted


def advance(run: Run, event: Event, now_s: float) -> tuple[Run, tuple[Action, ...]]:
    """The run after ``event``, and what is to be done. After the end, nothing is."""
    if run.phase is Phase.ENDED:
        return run, ()
    turn = Turn(run, now_s)
    HANDLERS[type(event)](turn, event)
    reconcile(turn)
    return turn.run, tuple(turn.actions)


def begin(
    policy: Policy,
    origin: Found,
    committed: int | None,
    budgets: Budgets,
    generation: int,
    now_s: float,
    next_worker: int = 1,
    left: LeftBehind | None = None,
    *,
    changes: bool = False,
) -> tuple[Run, tuple[Action, ...]]:
    """A run that starts from a checkpoint, with no worker yet.

    Args:
        origin: the checkpoint to start from.
        committed: its step if it's a checkpoint of this run's own output, else None.
        generation: the highest number that any earlier generation of this output had; 0 for a fresh
            one.
        next_worker: the first number for an identity that was never used.
        left: what an earlier driver had going when it died; none of its workers lives.
        changes: that checkpoint of its own holds changed rows only.
    """
    step = origin.step or 0
    own = None if committed is None else origin.position
    log = SaveLog(step, now_s, committed=committed, committed_position=own, changes=changes)
    run = Run(
        policy,
        budgets,
        log,
        since_s=now_s,
        generation=generation,
        step=step,
        highest=step,
        position=origin.position,
        granted_end=step,
        granted_position=origin.position,
        origin=origin,
        target=policy.sizes.count,
        moved_s=now_s,
        next_worker=next_worker,
    )
    turn = Turn(run, now_s)
    aftermath.account(turn, left, (), trains_on=False)
    reconcile(turn)
    return turn.run, tuple(turn.actions)


@dataclass(frozen=True)
class WorkerReport:
    """What a living worker says of itself to a new driver.

    Attributes:
        granted_end, granted_position: the highest that it was ever granted.
        devices: the GPUs that it trains on, or was given by Ray.
        group: the placement group that it lies in; ``lent_group`` the one whose GPUs it took, where
            that is another.
        share: as in ``events.Held``.
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
    granted_end: int
    held: bool
    joined: bool
    loaded: bool
    devices: tuple[str, ...] = ()
    group: str = ""
    lent_group: str = ""
    granted_position: int = 0
    share: tuple[int, int] | None = None


def adopt(
    policy: Policy,
    reports: Sequence[WorkerReport],
    committed: int | None,
    budgets: Budgets,
    generation: int,
    next_worker: int,
    now_s: float,
    rolled_back: tuple[int | None, int] = (None, 0),
    left: LeftBehind | None = None,
    *,
    changes: bool = False,
) -> tuple[Run, tuple[Action, ...]]:
    """A run taken over from a driver that died, with the workers that live, at their live step.

    A complete group that is training goes on as it is, with grants from the highest end that anybody
    was granted. Otherwise its members are gathered. ``generation`` is the highest number that the
    journal knows, ``rolled_back`` what ``aftermath.rolled_back`` found in it, ``left`` what the
    driver that died had going, ``changes`` whether the newest checkpoint holds changed rows only.
    """
    reports = [_without_tainted(report, rolled_back[1]) for report in reports]
    group, complete = _newest_group(reports)
    members = tuple(report.worker for report in group)
    taken = _taken_over(policy, budgets, committed, reports, group, rolled_back[1], now_s)
    run = replace(
        taken,
        saves=replace(taken.saves, changes=changes),
        used_generation=generation,
        next_worker=next_worker,
        rolled_back_from=rolled_back[0],
        pieced=not complete,
    )
    turn = Turn(run, now_s)
    turn.note(
        WorkersAdopted(
            workers=tuple(report.worker for report in reports),
            members=members,
            generation=run.generation,
            complete=complete,
            step=run.step,
        )
    )
    aftermath.account(turn, left, run.workers, trains_on=complete)
    if complete:
        shrinks = policy.sizes.on_loss == "shrink"
        turn.set(target=len(members) if shrinks else max(policy.sizes.count, len(members)))
    else:
        lost = turn.run.incident is not None and turn.run.incident.kind != DRIVER
        also = "and so did a part of the group" if lost else "while the group wasn't training"
        if _lacks_some(reports):
            use_up(turn)  # nobody told of who died while there was no driver
        turn.gather(f"the driver died, {also}")
    reconcile(turn)
    granted = any(isinstance(action, Grant) for action in turn.actions)
    granted_to = (run.granted_end, run.granted_position)
    stale = any((report.granted_end, report.granted_position) != granted_to for report in group)
    if stale and not granted and turn.run.phase is Phase.TRAINING:
        # A grant died with its driver: some would stand at its end for ever, and the others' step
        # wait for them
        save_under_way.send(turn, members, *granted_to)
    return turn.run, tuple(turn.actions)


def _taken_over(
    policy: Policy,
    budgets: Budgets,
    committed: int | None,
    reports: Sequence[WorkerReport],
    group: Sequence[WorkerReport],
    tainted_until: int,
    now_s: float,
) -> Run:
    members = tuple(report.worker for report in group)
    ranks = {ident: rank for rank, ident in enumerate(members)}
    places = [(report.step, report.position) for report in group if report.step is not None]
    (step, position), (highest, fastest_position) = (
        (min(places), max(places)) if places else ((0, 0), (0, 0))
    )
    return Run(
        policy,
        budgets,
        SaveLog(last_step=step, last_s=now_s, committed=committed, owed=True),
        since_s=now_s,
        phase=Phase.TRAINING,
        workers=Roster(
            _adopted(report, ranks.get(report.worker), now_s, tainted_until) for report in reports
        ),
        generation=max((report.generation for report in group), default=0),
        seats=members,
        members=members,
        step=step,
        position=position,
        highest=highest,
        granted_end=max((report.granted_end for report in group), default=0),
        granted_position=max((report.granted_position for report in group), default=0),
        fastest=highest,
        fastest_position=fastest_position,
        counted_s=now_s,
        laggards=places.count((step, position)),
        target=policy.sizes.count,
        moved_s=now_s,
        started=bool(places),
    )


def _newest_group(reports: Sequence[WorkerReport]) -> tuple[list[WorkerReport], bool]:
    """The newest generation's members by rank, and whether they are all there and train. If they
    don't: whoever has a state, also of a generation before the one that was being formed.
    """
    ranked = sorted(
        (report for report in reports if report.rank is not None),
        key=lambda item: (-item.generation, item.rank or 0),
    )
    group = [report for report in ranked if report.generation == ranked[0].generation]
    complete = (
        bool(group)
        and len(group) == group[0].world_size
        and all(report.joined and not report.held for report in group)
    )
    return (group if complete else ranked), complete


def _lacks_some(reports: Sequence[WorkerReport]) -> bool:
    """Whether some of the newest generation's members are gone."""
    ranked = [report for report in reports if report.rank is not None]
    newest = max((report.generation for report in ranked), default=0)
    group = [report for report in ranked if report.generation == newest]
    return bool(group) and len(group) < group[0].world_size


def _is_tainted(report: WorkerReport, until: int) -> bool:
    return report.rank is not None and report.generation <= until


def _without_tainted(report: WorkerReport, until: int) -> WorkerReport:
    """The report of a worker that may still hold a state that was rolled back from: that state
    counts for nothing.
    """
    return replace(report, step=None, joined=False) if _is_tainted(report, until) else report


def _adopted(report: WorkerReport, rank: int | None, now_s: float, tainted_until: int) -> Worker:
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
        rank=rank,
        moved_s=now_s,
        tainted=_is_tainted(report, tainted_until),
        share=report.share,
    )
