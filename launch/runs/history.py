"""What does a run's journal say about it, as of its last event?

Rule: a fold over the events, nothing else: the same journal gives the same history on any machine.
A worker that was said to be warm stays until it's said to be gone; ranks are those of the newest
generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.decide.timeline import Entry, Moment, names_in, timeline

_PHASES = {
    "attempt": "starting",
    "waiting": "waiting",
    "generation": "forming",
    "training": "training",
    "finding_checkpoint": "recovering",
    "stopping": "stopping",
    "end_of_data": "stopping",
    "user_error": "stopping",
    "give_up": "stopping",
    "finish": "ended",
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
    begun: Entry = field(default_factory=dict)
    progress: Entry = field(default_factory=dict)
    saved: Entry = field(default_factory=dict)
    incidents: tuple[Entry, ...] = ()
    open_loss: Entry | None = None
    finish: Entry | None = None

    @property
    def last_at(self) -> float | None:
        """Unix seconds of the newest event, by the driver's clock; None without events."""
        at = self.moments[-1].event.get("at") if self.moments else None
        return float(at) if isinstance(at, int | float) else None


def history(events: Sequence[Entry]) -> History:
    """What ``events`` (``store.run.journal.read_journal``) say."""
    moments = timeline(events)
    fold = _Fold()
    for moment in moments:
        fold.take(moment)
    return History(
        moments,
        fold.attempt,
        fold.phase,
        fold.reason,
        fold.generation,
        len(fold.seats),
        fold.step,
        fold.seen(),
        fold.begun,
        fold.progress,
        fold.saved,
        tuple(fold.incidents),
        fold.open_loss,
        fold.finish,
    )


class _Fold:
    """The history so far."""

    def __init__(self) -> None:
        self.attempt, self.generation = 0, 0
        self.step: int | None = None
        self.phase, self.reason = "starting", ""
        self.alive: dict[str, Entry] = {}
        self.seats: list[str] = []
        self.begun: Entry = {}
        self.progress: Entry = {}
        self.saved: Entry = {}
        self.incidents: list[Entry] = []
        self.open_loss: Entry | None = None
        self.finish: Entry | None = None

    def take(self, moment: Moment) -> None:
        event = moment.event
        if moment.attempt != self.attempt:
            self.attempt, self.finish, self.phase = moment.attempt, None, "starting"
        if moment.kind in _PHASES:
            self.phase, self.reason = _PHASES[moment.kind], str(event.get("reason") or "")
        self._workers(moment.kind, event)
        match moment.kind:
            case "attempt":
                self.begun = event
            case "progress":
                self.progress = event
            case "save_committed":
                self.saved = event
            case "incident":
                self.incidents.append(event)
                self.open_loss = None
                self.phase = "training" if event.get("recovered_s") is not None else self.phase
            case "finish":
                self.finish = event
        if moment.kind in (
            "progress",
            "training",
            "generation",
            "finish",
            "adopted",
        ) and isinstance(event.get("step"), int):
            # told by a thread that was overtaken
            late = moment.kind == "progress" and self.finish is not None
            self.step = max(self.step or 0, event["step"]) if late else event["step"]

    def _workers(self, kind: str, event: Entry) -> None:
        worker = str(event.get("worker") or "")
        match kind:
            case "worker_warm":
                self.alive[worker] = event
            case "worker_lost" | "worker_released":
                self.alive.pop(worker, None)
                if kind == "worker_lost" and event.get("rank") is not None:
                    self.open_loss, self.phase, self.reason = (
                        event,
                        "recovering",
                        str(event.get("reason") or ""),
                    )
            case "generation" | "adopted":
                # Who is adopted may be a standby; journals before "members" was told held everybody
                # for a member
                self.seats = names_in(event.get("members", event.get("workers")))
                self.generation = int(event.get("generation") or self.generation)
                if kind == "adopted" and event.get("complete"):
                    self.phase = "training"
            case "finish":
                self.alive, self.seats = {}, []

    def seen(self) -> tuple[WorkerSeen, ...]:
        ranks = {worker: rank for rank, worker in enumerate(self.seats)}
        found = [_seen(ranks.get(worker), worker, event) for worker, event in self.alive.items()]
        return tuple(
            sorted(found, key=lambda item: (item.rank is None, item.rank or 0, item.worker))
        )


def _seen(rank: int | None, worker: str, event: Entry) -> WorkerSeen:
    return WorkerSeen(rank, worker, event.get("pid"), event.get("node"))


def steps_redone(incidents: Iterable[Entry]) -> int:
    """Steps that had to be done again, over all incidents."""
    return sum(int(item.get("steps_redone") or 0) for item in incidents)
