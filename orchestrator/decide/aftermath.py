"""What did a driver's death hide, and what follows from it?

Rule: a driver that died can't tell who died with it. The next one compares what the journal knows
with who answers: each missing worker is written down and paid for like any other loss, and the
group's disturbance becomes an incident that began when the journal fell silent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.decide import incidents, losses
from orchestrator.decide.causes import Cause
from orchestrator.decide.driver_restarts import Death
from orchestrator.decide.events import Gone
from orchestrator.decide.incident import DRIVER
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.turn import Turn
from orchestrator.exit_codes import ended_text
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.group_events import (
    GenerationFormed,
    RollingBack,
    TrainingBegan,
    WorkersAdopted,
)
from orchestrator.journal.run_events import IncidentOver, ProgressMade, RunEnded
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.journal.worker_events import LossOfWorker, WorkerReleased, WorkerWarm

REASON = "it was gone when this driver came"
_STEPPED = (ProgressMade, TrainingBegan, WorkersAdopted, SaveCommitted, LossOfWorker)


@dataclass(frozen=True)
class LeftBehind:
    """What a driver that didn't end in order had going.

    Attributes:
        members: identities by rank of its last generation, those known to be lost being taken out;
            ``standbys`` the other warm ones.
        world_size: of that generation.
        warm: what the journal says of each.
        loss: a member's loss that it had seen and whose incident it didn't live to close.
        highest: the last step that the journal knows to be finished, since the last incident.
        silent_s: seconds since its last word, by the drivers' wall clocks.
        death: how its process ended; None where nobody has told.
    """

    members: Mapping[str, int] = field(default_factory=dict)
    standbys: tuple[str, ...] = ()
    world_size: int = 0
    warm: Mapping[str, WorkerWarm] = field(default_factory=dict)
    loss: LossOfWorker | None = None
    highest: int = 0
    silent_s: float = 0.0
    death: Death | None = None


@dataclass
class Going:
    """What the journal's last driver had going: a fold of the journal.

    Attributes:
        seats: members by rank of the newest generation; ``warm`` what the journal says of each
            worker that isn't known to be gone.
        loss, highest: as ``LeftBehind`` has them.
        trained: whether the group has trained since the run last ended in order.
        last_at: unix seconds of the last event that tells them.
        rolled_back: step and generation of the newest roll-back; the step None where a later one
            was committed since.
    """

    seats: list[str] = field(default_factory=list)
    warm: dict[str, WorkerWarm] = field(default_factory=dict)
    loss: LossOfWorker | None = None
    highest: int = 0
    trained: bool = False
    last_at: float | None = None
    rolled_back_step: int | None = None
    rolled_back_generation: int = 0

    def take(self, event: JournalEvent) -> None:
        """One more event, in the order of the journal."""
        self.last_at = self.last_at if event.at is None else event.at
        if isinstance(event, _STEPPED):
            self.highest = max(self.highest, event.step or 0)
        match event:
            case RunEnded():
                self.seats, self.warm, self.loss = [], {}, None
                self.highest, self.trained = 0, False
            case GenerationFormed():
                self.seats = list(event.workers)
            case TrainingBegan():
                self.trained = True
            case WorkerWarm():
                self.warm[event.worker] = event
            case LossOfWorker():
                self.warm.pop(event.worker, None)
                self.loss = self.loss or (event if event.rank is not None else None)
            case WorkerReleased():
                self.warm.pop(event.worker, None)
            case IncidentOver() if not event.is_passing:
                self.loss, self.highest = None, event.step or 0
            case RollingBack() if not event.lacks("generation"):
                self.rolled_back_step = event.step
                self.rolled_back_generation = event.generation
            case SaveCommitted() if event.step > (self.rolled_back_step or 0):
                self.rolled_back_step = None

    def left_behind(self, now_unix_s: float, death: Death | None = None) -> LeftBehind | None:
        """What was going on; None where the driver ended in order or had nobody that trained."""
        if not self.trained:
            return None
        members = {worker: rank for rank, worker in enumerate(self.seats) if worker in self.warm}
        standbys = tuple(worker for worker in self.warm if worker not in members)
        last_at = now_unix_s if self.last_at is None else self.last_at
        silent_s = max(0.0, now_unix_s - last_at)
        return LeftBehind(
            members,
            standbys,
            len(self.seats),
            dict(self.warm),
            self.loss,
            self.highest,
            silent_s,
            death,
        )

    @property
    def rolled_back(self) -> tuple[int | None, int]:
        """The step that was rolled back from, None where a later one was committed since; and the
        last generation whose states don't count.
        """
        return self.rolled_back_step, self.rolled_back_generation


def account(
    turn: Turn, left: LeftBehind | None, living: Collection[str], *, trains_on: bool
) -> None:
    """Write down and pay for those who died with the driver, and open the incident that it
    couldn't.

    Args:
        trains_on: the whole group lives and trains, so that a loss of the driver alone is over.
    """
    if left is None:
        return
    for worker in left.standbys:
        if worker not in living:
            turn.note(_told(left.warm[worker], None))
    if left.loss is not None:
        # First: what was lost with the driver made a disturbance worse that had begun
        seen = left.loss
        gone = Worker(seen.worker, Stage.MEMBER, turn.now_s, turn.now_s, node=seen.node or "")
        cause = seen.cause or Cause.DIED.value
        incidents.open_incident(turn, cause, gone, seen.rank, seen.reason)
    lost = {worker: rank for worker, rank in left.members.items() if worker not in living}
    for worker, rank in lost.items():
        entry = left.warm[worker]
        turn.note(_told(entry, rank))
        gone = Worker(worker, Stage.MEMBER, turn.now_s, turn.now_s, node=entry.node)
        incidents.open_incident(
            turn, Cause.DIED.value, gone, rank, f"{REASON}: {_driver_text(left.death)} as well"
        )
        # Not as if a step had killed it: what killed the driver killed it too
        losses.pay(turn, gone, Gone(worker, Cause.DIED), begun=False)
    if turn.run.incident is None and not trains_on:
        _open_driver_lost(turn, left.death)
    # It began when the driver fell silent, not when this one came: the time between is lost as well
    incident = turn.run.incident
    if incident is None:
        turn.note(_driver_lost(turn, left))
    else:
        highest = max(turn.run.highest, left.highest)
        began_s = turn.now_s - left.silent_s
        turn.set(
            incident=replace(
                incident,
                began_s=began_s,
                highest=highest,
                world_size=left.world_size or incident.world_size,
            ),
            highest=highest,
        )


def _open_driver_lost(turn: Turn, death: Death | None) -> None:
    """The incident of a driver whose group lives, but doesn't train."""
    code = death.code if death else None
    incidents.open_incident(turn, DRIVER, None, None, _driver_text(death), code)
    incident = turn.run.incident
    if incident is not None and death is not None:
        turn.set(incident=replace(incident, restarts=(death.restart, death.allowed)))


def _driver_lost(turn: Turn, left: LeftBehind) -> IncidentOver:
    """The incident of a driver whose group trains on: it's over as soon as there is another."""
    run, death = turn.run, left.death
    silent_s = round(left.silent_s, 4)
    return IncidentOver(
        kind=DRIVER,
        rank=None,
        node="",
        worker="",
        detected_s=silent_s,
        recovered_s=silent_s,
        steps_redone=0,
        action="another driver has taken over, and the workers trained on",
        reason=_driver_text(death),
        generation=run.generation,
        step=run.step,
        world_size_before=left.world_size,
        world_size=run.world_size,
        exit_code=death.code if death else None,
        losses=death.restart if death else None,
        losses_allowed=death.allowed if death else None,
    )


def _driver_text(death: Death | None) -> str:
    if death is None:
        return "the driver died; how isn't known"
    return f"the driver died ({ended_text(death.code)})"


def _told(entry: WorkerWarm, rank: int | None) -> LossOfWorker:
    return LossOfWorker(
        worker=entry.worker,
        rank=rank,
        node=entry.node,
        pid=entry.pid,
        cause=Cause.DIED.value,
        reason=REASON,
        step=None,
        phase="no driver",
        spared=rank is None,
    )
