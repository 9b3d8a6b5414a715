"""What does a run's journal say about it, to who looks at it from outside?

Rule: a view of the folds of the journal (``decide.standing``, ``decide.goodput``), which a snapshot
may stand in for; only the report takes the events themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.decide.goodput import Account, Goodput
from orchestrator.decide.standing import JournaledState
from orchestrator.decide.timeline import Moment, number_of, timeline
from orchestrator.journal.event import is_number
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse_all
from orchestrator.journal.run_events import (
    AttemptBegan,
    IncidentOver,
    ProgressMade,
    RunEnded,
    StepsTimed,
)
from orchestrator.journal.worker_events import LossOfWorker, WorkerWarm


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
        incidents: the incidents that are over, the newest thousand, oldest first; ``open_loss`` is
            the loss behind one that isn't.
        earlier_incidents, earlier_redone: as ``decide.standing`` has them.
        finish: how the newest attempt ended; None where it didn't.
        warnings: what the run was warned of, each once.
        account: what its time was spent on.
        last_at: unix seconds of the newest event, by the driver's clock; None without events.
        moments: the events themselves, for the report alone.
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
    earlier_incidents: int = 0
    earlier_redone: int = 0
    open_loss: LossOfWorker | None = None
    finish: RunEnded | None = None
    warnings: tuple[str, ...] = ()
    account: Goodput = field(default_factory=lambda: Account().goodput())
    last_at: float | None = None

    @property
    def until(self) -> int | None:
        """The step at which the run ends; None where nobody has told."""
        told = [item for item in (self.progress, self.begun) if item and not item.lacks("until")]
        return told[0].until if told else None


def history(records: Iterable[Mapping[str, Any]]) -> History:
    """What a journal (``store.run.journal.read_journal``) says, with its events."""
    events = sorted(parse_all(records), key=number_of)
    seen = history_of(folded(JournaledState, events), folded(Account, events))
    return replace(seen, moments=timeline(events))


def history_of(standing: JournaledState, account: Account) -> History:
    """What folds of a journal say."""
    return History(
        attempt=standing.attempt,
        phase=standing.phase,
        reason=standing.reason,
        generation=standing.generation,
        world_size=len(standing.seats),
        step=standing.step,
        workers=_seen(standing),
        begun=standing.begun,
        progress=standing.progress,
        step_times={} if standing.timed is None else ranks_of(standing.timed),
        incidents=tuple(standing.incidents),
        earlier_incidents=standing.earlier_incidents,
        earlier_redone=standing.earlier_redone,
        open_loss=standing.open_loss,
        finish=standing.finish,
        warnings=tuple(standing.warnings),
        account=account.goodput(),
        last_at=standing.last_at,
    )


def _seen(standing: JournaledState) -> tuple[WorkerSeen, ...]:
    ranks = {worker: rank for rank, worker in enumerate(standing.seats)}
    found = [
        WorkerSeen(ranks.get(worker), worker, event.pid, _told(event, "node", event.node))
        for worker, event in standing.alive.items()
    ]
    return tuple(sorted(found, key=lambda item: (item.rank is None, item.rank or 0, item.worker)))


def _told(event: WorkerWarm, name: str, value: str) -> str | None:
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
