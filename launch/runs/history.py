"""What does a run's journal say about it, as of its last event?

Rule: a fold over the events, nothing else: the same journal gives the same history on any machine.
A worker that was said to be warm stays until it's said to be gone; ranks are those of the newest
generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide.timeline import Moment, timeline
from orchestrator.journal.event import JournalEvent, is_number
from orchestrator.journal.group_events import (
    FindingCheckpoint,
    GenerationFormed,
    TrainingBegan,
    WaitingForWorkers,
    WorkersAdopted,
)
from orchestrator.journal.parsing import parse_all
from orchestrator.journal.run_events import (
    AttemptBegan,
    GaveUp,
    IncidentOver,
    InputUsedUp,
    ProgressMade,
    RunEnded,
    StepsTimed,
    Stopping,
    UserErrorRaised,
)
from orchestrator.journal.worker_events import LossOfWorker, WorkerReleased, WorkerWarm

_PHASES: Mapping[type[JournalEvent], str] = {
    AttemptBegan: "starting",
    WaitingForWorkers: "waiting",
    GenerationFormed: "forming",
    TrainingBegan: "training",
    FindingCheckpoint: "recovering",
    Stopping: "stopping",
    InputUsedUp: "stopping",
    UserErrorRaised: "stopping",
    GaveUp: "stopping",
    RunEnded: "ended",
}


@dataclass(frozen=True)
class WorkerSeen:
    """A worker as the journal knows it; ``rank`` is None for a standby."""

    rank: int | None
    worker: str
    pid: int | None
    node: str | None


@dataclass(frozen=True)
class History:
    """What the journal says.

    Attributes:
        phase: starting, waiting, forming, training, recovering, stopping or ended.
        reason: why it's in this phase, where the journal gives a reason.
        step: the last step that anybody told; None before any.
        progress: the newest ``progress`` event, empty before the first.
        step_times: rank to seconds of a step by part, as told last.
        incidents: the incidents that are over, oldest first; ``open_loss`` is the loss behind one
            that isn't.
        finish: how the newest attempt ended; None where it didn't.
    """

    moments: tuple[Moment, ...] = field(default=(), repr=False)
    attempt: int = 0
    phase: str = "starting"
    reason: str = ""
    generation: int = 0
    world_size: int = 0
    step: int | None = None
    workers: tuple[WorkerSeen, ...] = ()
    begun: AttemptBegan | None = None
    progress: ProgressMade | None = None
    step_times: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    incidents: tuple[IncidentOver, ...] = ()
    open_loss: LossOfWorker | None = None
    finish: RunEnded | None = None

    @property
    def last_at(self) -> float | None:
        """Unix seconds of the newest event, by the driver's clock; None without events."""
        return self.moments[-1].event.at if self.moments else None

    @property
    def until(self) -> int | None:
        """The step at which the run ends; None where nobody has told."""
        told = [item for item in (self.progress, self.begun) if item and not item.lacks("until")]
        return told[0].until if told else None


def history(records: Iterable[Mapping[str, Any]]) -> History:
    """What a journal (``store.run.journal.read_journal``) says."""
    moments = timeline(parse_all(records))
    fold = _Fold()
    for moment in moments:
        fold.take(moment)
    return History(
        moments=moments,
        attempt=fold.attempt,
        phase=fold.phase,
        reason=fold.reason,
        generation=fold.generation,
        world_size=len(fold.seats),
        step=fold.step,
        workers=fold.seen(),
        begun=fold.begun,
        progress=fold.progress,
        step_times=fold.step_times,
        incidents=tuple(fold.incidents),
        open_loss=fold.open_loss,
        finish=fold.finish,
    )


class _Fold:
    """The history so far."""

    def __init__(self) -> None:
        self.attempt, self.generation = 0, 0
        self.step: int | None = None
        self.phase, self.reason = "starting", ""
        self.alive: dict[str, WorkerWarm] = {}
        self.seats: tuple[str, ...] = ()
        self.begun: AttemptBegan | None = None
        self.progress: ProgressMade | None = None
        self.step_times: Mapping[str, Mapping[str, float]] = {}
        self.incidents: list[IncidentOver] = []
        self.open_loss: LossOfWorker | None = None
        self.finish: RunEnded | None = None

    def take(self, moment: Moment) -> None:
        event = moment.event
        if moment.attempt != self.attempt:
            self.attempt, self.finish, self.phase = moment.attempt, None, "starting"
        if type(event) in _PHASES:
            self.phase, self.reason = _PHASES[type(event)], getattr(event, "reason", "")
        self._workers(event)
        match event:
            case AttemptBegan():
                self.begun = event
            case ProgressMade():
                self.progress = event
            case StepsTimed():
                self.step_times = ranks_of(event)
            case IncidentOver():
                self.incidents.append(event)
                self.open_loss = None
                self.phase = "training" if event.recovered_s is not None else self.phase
            case RunEnded():
                self.finish = event
        self._step(event)

    def _step(self, event: JournalEvent) -> None:
        match event:
            case ProgressMade() if self.finish is not None and not event.lacks("step"):
                # told by a thread that was overtaken
                self.step = max(self.step or 0, event.step)
            case (
                ProgressMade()
                | TrainingBegan()
                | GenerationFormed()
                | RunEnded()
                | WorkersAdopted()
            ) if event.step is not None and not event.lacks("step"):
                self.step = event.step

    def _workers(self, event: JournalEvent) -> None:
        match event:
            case WorkerWarm():
                self.alive[event.worker] = event
            case LossOfWorker():
                self.alive.pop(event.worker, None)
                if event.rank is not None:
                    self.open_loss, self.phase, self.reason = event, "recovering", event.reason
            case WorkerReleased():
                self.alive.pop(event.worker, None)
            case GenerationFormed():
                self.seats = event.workers
                self.generation = event.generation or self.generation
            case WorkersAdopted():
                self.seats = event.seats
                self.generation = event.generation or self.generation
                self.phase = "training" if event.complete else self.phase
            case RunEnded():
                self.alive, self.seats = {}, ()

    def seen(self) -> tuple[WorkerSeen, ...]:
        ranks = {worker: rank for rank, worker in enumerate(self.seats)}
        found = [
            WorkerSeen(ranks.get(worker), worker, event.pid, _told(event, "node", event.node))
            for worker, event in self.alive.items()
        ]
        return tuple(
            sorted(found, key=lambda item: (item.rank is None, item.rank or 0, item.worker))
        )


def _told(event: JournalEvent, name: str, value: str) -> str | None:
    return None if event.lacks(name) else value


def ranks_of(event: StepsTimed) -> Mapping[str, Mapping[str, float]]:
    """Rank to seconds of a step by part; what isn't a number is left out."""
    return {
        str(rank): {str(name): float(value) for name, value in parts.items() if is_number(value)}
        for rank, parts in event.ranks.items()
        if isinstance(parts, Mapping)
    }


def steps_redone(incidents: Iterable[IncidentOver]) -> int:
    """Steps that had to be done again, over all incidents."""
    return sum(item.steps_redone for item in incidents)
