"""Which worker held which rank, in which generation, from when to when?

Rule: a rank's stretch begins when its generation is formed and ends with the worker's loss, the
next generation or the run's end. A driver's death ends nothing: workers that the next driver adopts
go on in the same stretch, the others ended with the old driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from launch.text.quantities import node_text
from orchestrator.decide.timeline import Moment
from orchestrator.journal.group_events import GenerationFormed, WorkersAdopted
from orchestrator.journal.run_events import AttemptBegan, RunEnded
from orchestrator.journal.worker_events import LossOfWorker, WorkerReleased, WorkerWarm


@dataclass
class RankSpan:
    """One worker in one rank of one generation; times in seconds since the run's first event."""

    rank: int
    generation: int
    worker: str
    begin: float
    end: float | None = None
    node: str = ""
    pid: int | None = None
    ended: str = ""


@dataclass(frozen=True)
class Life:
    """One attempt: a driver from its first event to its last."""

    attempt: int
    begin: float
    end: float
    holder: str
    how: str


@dataclass
class _Lanes:
    done: list[RankSpan] = field(default_factory=list)
    open: dict[str, RankSpan] = field(default_factory=dict)
    known: dict[str, WorkerWarm] = field(default_factory=dict)
    generation: int = 0
    attempt: int = 0
    last: float = 0.0
    orphaned: float | None = None

    def take(self, moment: Moment) -> None:
        event, at_s = moment.event, moment.at_s
        if moment.attempt != self.attempt:
            self.orphaned = self.last if self.open else None
            self.attempt = moment.attempt
        match event:
            case WorkerWarm():
                self.known[event.worker] = event
            case LossOfWorker():
                self.close([event.worker], at_s, event.cause or event.reason or "ended")
            case WorkerReleased():
                self.close([event.worker], at_s, event.reason or "ended")
            case WorkersAdopted():
                self.adopt(event.workers)
            case GenerationFormed():
                self.form(at_s, event)
            case RunEnded():
                self.close(list(self.open), at_s, "the run ended")
        self.last = at_s

    def close(self, workers: Sequence[str], at_s: float, why: str) -> None:
        for worker in workers:
            stretch = self.open.pop(worker, None)
            if stretch is not None:
                stretch.end, stretch.ended = max(at_s, stretch.begin), why
                self.done.append(stretch)

    def adopt(self, workers: Sequence[str]) -> None:
        if self.orphaned is not None:
            self.close(
                [item for item in self.open if item not in workers],
                self.orphaned,
                "gone with the driver",
            )
        self.orphaned = None

    def form(self, at_s: float, event: GenerationFormed) -> None:
        if self.orphaned is not None:
            self.adopt([])
        self.close(list(self.open), at_s, "next generation")
        self.generation = event.generation or self.generation + 1
        for rank, item in enumerate(event.workers):
            seen = self.known.get(item)
            node, pid = (node_text(seen.node), seen.pid) if seen else ("", None)
            self.open[item] = RankSpan(rank, self.generation, item, at_s, None, node, pid)


def lanes(moments: Sequence[Moment]) -> tuple[RankSpan, ...]:
    """Every stretch of every rank; ``end`` is None where the worker still holds its rank."""
    fold = _Lanes()
    for moment in moments:
        fold.take(moment)
    return tuple(
        sorted([*fold.done, *fold.open.values()], key=lambda item: (item.rank, item.begin))
    )


def lives(moments: Sequence[Moment]) -> tuple[Life, ...]:
    """The run's attempts in order."""
    found: dict[int, list[Moment]] = {}
    for moment in moments:
        found.setdefault(moment.attempt, []).append(moment)
    return tuple(
        _life(attempt, of_it, attempt == max(found)) for attempt, of_it in sorted(found.items())
    )


def _life(attempt: int, moments: Sequence[Moment], newest: bool) -> Life:
    events = [moment.event for moment in moments]
    holder = next((event.holder for event in events if isinstance(event, AttemptBegan)), "")
    finish = next((event for event in events if isinstance(event, RunEnded)), None)
    silent = "" if newest else "lost without a word"
    how = (finish.outcome or "ended") if finish else silent
    return Life(attempt, moments[0].at_s, moments[-1].at_s, holder, how)
