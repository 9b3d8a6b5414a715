"""What did earlier drivers of this run leave in its journal?

Rule: ``fold`` makes it in one pass over the events; nothing is remembered anywhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide import budgets
from orchestrator.decide.aftermath import LeftBehind, left_behind, rolled_back
from orchestrator.decide.driver_restarts import DRIVER_DEATH, Death
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.group_events import GenerationFormed
from orchestrator.journal.parsing import parse_all
from orchestrator.journal.run_events import AttemptBegan
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.journal.worker_events import WorkerStarted
from orchestrator.workers.places import known_places


@dataclass(frozen=True)
class Past:
    """What the journal of the attempts before this one says.

    Attributes:
        events: the journal itself.
        trained_s: seconds that earlier attempts took.
        newest: the newest committed checkpoint; None before the first.
        last_generation: the highest generation number that was ever used in this output.
        last_worker: the highest worker number that was ever used.
        last_config: the settings of the driver before, without secrets; empty where it told none.
        rolled_back: what was rolled back from: ``decide.aftermath.rolled_back``.
        places: place to node and GPUs: ``workers.places.known_places``.
    """

    events: tuple[JournalEvent, ...] = ()
    trained_s: float = 0.0
    newest: SaveCommitted | None = None
    last_generation: int = 0
    last_worker: int = 0
    last_config: Mapping[str, Any] = field(default_factory=dict)
    rolled_back: tuple[int | None, int] = (None, 0)
    places: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    @property
    def newest_label(self) -> str | None:
        """The newest committed checkpoint's label."""
        return self.newest.checkpoint if self.newest is not None else None

    @property
    def newest_step(self) -> int | None:
        """Its step."""
        return self.newest.step if self.newest is not None else None

    def budgets(self, limit: int, now_s: float, now_unix_s: float) -> budgets.Budgets:
        """What is left of the retry budgets, on this process's clock, which shows ``now_s``."""
        return budgets.from_journal(self.events, limit, now_s, now_unix_s)

    def left_behind(self, now_unix_s: float) -> LeftBehind | None:
        """What the driver before had going when it died: ``decide.aftermath.left_behind``."""
        death = Death.parse(os.environ.get(DRIVER_DEATH, ""))
        return left_behind(self.events, now_unix_s, death)

    def next_worker(self, living: Iterable[str]) -> int:
        """The first worker number that was never used. ``living``: names of the workers that lived
        when this driver came, of which the journal may not know yet.
        """
        return max([self.last_worker, *(_number(worker) for worker in living)]) + 1


def fold(records: Iterable[Mapping[str, Any]]) -> Past:
    """What a journal (``store.run.journal.read_journal``) says."""
    events = parse_all(records)
    last_s: dict[int | None, float] = {}
    newest: SaveCommitted | None = None
    generation = worker = 0
    config: Mapping[str, Any] = {}
    for event in events:
        last_s[event.attempt] = event.t_s or 0.0
        match event:
            case SaveCommitted():
                newest = event
            case GenerationFormed():
                generation = max(generation, event.generation)
            case WorkerStarted():
                worker = max(worker, _number(event.worker))
            case AttemptBegan() if not event.lacks("config"):
                config = event.config
    return Past(
        events=events,
        trained_s=sum(last_s.values()),
        newest=newest,
        last_generation=generation,
        last_worker=worker,
        last_config=config,
        rolled_back=rolled_back(events),
        places=known_places(events),
    )


def _number(worker: str) -> int:
    """``w0003`` is the third; 0 for what a damaged journal calls a worker."""
    return int(worker[1:]) if worker[1:].isdecimal() else 0
