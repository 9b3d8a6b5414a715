"""How does a run stand, as of its journal's last event?

Rule: a fold over the events, nothing else: the same journal gives the same answer on any machine. A
worker that was said to be warm stays until it's said to be gone; ranks are those of the newest
generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.decide.timeline import number_of
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.group_events import (
    FindingCheckpoint,
    GenerationFormed,
    TrainingBegan,
    WaitingForWorkers,
    WorkersAdopted,
)
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
    Warned,
)
from orchestrator.journal.worker_events import LossOfWorker, WorkerReleased, WorkerWarm

MOST_INCIDENTS = 1000
"""A megabyte of them; a run that is disturbed each minute for a month has forty times as many."""
MOST_WARNINGS = 256
"""A run is warned of a few things, some with numbers in them that differ each time."""

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


@dataclass
class JournaledState:
    """The state of a run: a fold of the journal.

    Attributes:
        phase: starting, waiting, forming, training, recovering, stopping or ended.
        reason: why it's in this phase, where the journal gives a reason.
        step: the last step that anybody told; None before any.
        alive: what is known of each warm worker; ``seats`` those of the newest generation by rank.
        progress, timed: the newest of their kind; None before the first.
        incidents: those that are over, the newest ``MOST_INCIDENTS``, oldest first;
            ``open_loss`` is the loss behind one that isn't.
        earlier_incidents, earlier_redone: how many more there were before them, and the steps that
            were done again for those.
        finish: how the newest attempt ended; None where it didn't.
        warnings: what the run was warned of, each once, the first ``MOST_WARNINGS``.
        last_at: unix seconds of the newest event, by its driver's clock.
    """

    attempt: int = 0
    phase: str = "starting"
    reason: str = ""
    generation: int = 0
    step: int | None = None
    alive: dict[str, WorkerWarm] = field(default_factory=dict)
    seats: list[str] = field(default_factory=list)
    begun: AttemptBegan | None = None
    progress: ProgressMade | None = None
    timed: StepsTimed | None = None
    incidents: list[IncidentOver] = field(default_factory=list)
    earlier_incidents: int = 0
    earlier_redone: int = 0
    open_loss: LossOfWorker | None = None
    finish: RunEnded | None = None
    warnings: list[str] = field(default_factory=list)
    last_at: float | None = None

    def take(self, event: JournalEvent) -> None:
        """One more event, in the order of the journal."""
        self.last_at = event.at
        attempt = max(number_of(event), self.attempt)
        if attempt != self.attempt:
            self.attempt, self.finish, self.phase = attempt, None, "starting"
        if type(event) in _PHASES:
            self.phase, self.reason = _PHASES[type(event)], getattr(event, "reason", "")
        self._workers(event)
        match event:
            case AttemptBegan():
                self.begun = event
            case ProgressMade():
                self.progress = event
            case StepsTimed():
                self.timed = event
            case IncidentOver():
                self._incident(event)
                self.open_loss = None
                self.phase = "training" if event.recovered_s is not None else self.phase
            case RunEnded():
                self.finish = event
            case Warned() if len(self.warnings) < MOST_WARNINGS:
                self.warnings = list(dict.fromkeys([*self.warnings, event.reason]))
        self._step(event)

    def _incident(self, event: IncidentOver) -> None:
        self.incidents.append(event)
        if len(self.incidents) > MOST_INCIDENTS:
            self.earlier_incidents += 1
            self.earlier_redone += self.incidents.pop(0).steps_redone

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
                self.seats = list(event.workers)
                self.generation = event.generation or self.generation
            case WorkersAdopted():
                self.seats = list(event.seats)
                self.generation = event.generation or self.generation
                self.phase = "training" if event.complete else self.phase
            case RunEnded():
                self.alive, self.seats = {}, []
