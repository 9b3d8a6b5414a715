"""What did earlier drivers of this run leave in its journal?

Rule: folds of the journal, each bounded however long the run is (``journal.folding``); nothing is
remembered anywhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide import budgets
from orchestrator.decide.aftermath import Going, LeftBehind
from orchestrator.decide.driver_restarts import DRIVER_DEATH, Death
from orchestrator.decide.goodput import Account
from orchestrator.decide.standing import JournaledState
from orchestrator.decide.timeline import number_of
from orchestrator.driver.measurements import Counted
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.folding import Fold, Folds, take_all
from orchestrator.journal.group_events import GenerationFormed
from orchestrator.journal.run_events import AttemptBegan
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.journal.worker_events import WorkerStarted, WorkerWarm
from orchestrator.workers.places import known_places

MOST_PLACES = 16_384
"""Places that are known of, the newest. A run has one for each worker, and another one where a node
was lost or avoided.
"""


@dataclass
class Traces:
    """What the next driver needs of the earlier ones: a fold of the journal.

    Attributes:
        attempt, t_s: of the last event; ``before_s`` what the attempts before it took.
        newest: the newest committed checkpoint; None before the first.
        generation, worker: the highest numbers that were ever used in this output.
        config: the settings of the newest driver, without secrets; empty where it told none.
        places: what the first worker in each place said.
    """

    attempt: int | None = None
    t_s: float = 0.0
    before_s: float = 0.0
    newest: SaveCommitted | None = None
    generation: int = 0
    worker: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    places: dict[str, WorkerWarm] = field(default_factory=dict)

    def take(self, event: JournalEvent) -> None:
        """One more event, in the order of the journal."""
        if self.attempt is None or number_of(event) > self.attempt:
            self.attempt, self.before_s = number_of(event), self.before_s + self.t_s
        self.t_s = event.t_s or 0.0
        match event:
            case SaveCommitted():
                self.newest = event
            case GenerationFormed():
                self.generation = max(self.generation, event.generation)
            case WorkerStarted():
                self.worker = max(self.worker, _number(event.worker))
            case WorkerWarm() if event.place:
                self.places[event.place] = event
                while len(self.places) > MOST_PLACES:
                    del self.places[next(iter(self.places))]
            case AttemptBegan() if not event.lacks("config"):
                self.config = dict(event.config)


KINDS: Mapping[str, type[Fold]] = {
    "standing": JournaledState,
    "account": Account,
    "traces": Traces,
    "going": Going,
    "losses": budgets.Losses,
    "counted": Counted,
}
"""All folds that a snapshot of the journal holds."""


@dataclass(frozen=True)
class Past:
    """What the journal of the attempts before this one says.

    Attributes:
        damaged: what of it couldn't be read, in words.
    """

    standing: JournaledState = field(default_factory=JournaledState)
    account: Account = field(default_factory=Account)
    traces: Traces = field(default_factory=Traces)
    going: Going = field(default_factory=Going)
    losses: budgets.Losses = field(default_factory=budgets.Losses)
    counted: Counted = field(default_factory=Counted)
    damaged: tuple[str, ...] = ()

    @classmethod
    def of(cls, folds: Folds) -> Past:
        """What folds of the journal (``KINDS``) say."""
        return cls(**folds)  # type: ignore[arg-type]  # under the names of KINDS

    @property
    def trained_s(self) -> float:
        """Seconds that earlier attempts took."""
        return self.traces.before_s + self.traces.t_s

    @property
    def newest_label(self) -> str | None:
        """The newest committed checkpoint's label."""
        return self.traces.newest.checkpoint if self.traces.newest is not None else None

    @property
    def newest_step(self) -> int | None:
        """Its step."""
        return self.traces.newest.step if self.traces.newest is not None else None

    @property
    def last_generation(self) -> int:
        """The highest generation number that was ever used in this output."""
        return self.traces.generation

    @property
    def last_config(self) -> Mapping[str, Any]:
        """The settings of the driver before, without secrets; empty where it told none."""
        return self.traces.config

    @property
    def rolled_back(self) -> tuple[int | None, int]:
        """What was rolled back from: ``decide.aftermath.Going``."""
        return self.going.rolled_back

    @property
    def places(self) -> Mapping[str, tuple[str, tuple[str, ...]]]:
        """Place to node and GPUs: ``workers.places.known_places``."""
        return known_places(self.traces.places.values())

    def budgets(self, limit: int, now_s: float, now_unix_s: float) -> budgets.Budgets:
        """What is left of the retry budgets, on this process's clock, which shows ``now_s``."""
        return budgets.from_journal(self.losses.told, limit, now_s, now_unix_s)

    def left_behind(self, now_unix_s: float) -> LeftBehind | None:
        """What the driver before had going when it died."""
        death = Death.parse(os.environ.get(DRIVER_DEATH, ""))
        return self.going.left_behind(now_unix_s, death)

    def next_worker(self, living: Iterable[str]) -> int:
        """The first worker number that was never used. ``living``: names of the workers that lived
        when this driver came, of which the journal may not know yet.
        """
        return max([self.traces.worker, *(_number(worker) for worker in living)]) + 1


def fold(records: Iterable[Mapping[str, Any]]) -> Past:
    """What a journal (``store.run.journal.read_journal``) says."""
    folds: Folds = {name: kind() for name, kind in KINDS.items()}
    take_all(folds, records)
    return Past.of(folds)


def _number(worker: str) -> int:
    """``w0003`` is the third; 0 for what a damaged journal calls a worker."""
    return int(worker[1:]) if worker[1:].isdecimal() else 0
