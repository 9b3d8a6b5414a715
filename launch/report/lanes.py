"""Which worker held which rank, in which generation, from when to when?

Rule: a rank's stretch begins when its generation is formed and ends with the worker's loss, the
next generation or the run's end. A driver's death ends nothing: workers that the next driver adopts
go on in the same stretch, the others ended with the old driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from launch.text.quantities import node_text
from orchestrator.decide.timeline import Moment, names_in


@dataclass
class Stretch:
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
    done: list[Stretch] = field(default_factory=list)
    open: dict[str, Stretch] = field(default_factory=dict)
    known: dict[str, Moment] = field(default_factory=dict)
    generation: int = 0
    attempt: int = 0
    last: float = 0.0
    orphaned: float | None = None

    def take(self, moment: Moment) -> None:
        event, worker = moment.event, str(moment.event.get("worker") or "")
        if moment.attempt != self.attempt:
            self.orphaned = self.last if self.open else None
            self.attempt = moment.attempt
        match moment.kind:
            case "worker_warm":
                self.known[worker] = moment
            case "worker_lost" | "worker_released":
                self.close(
                    [worker], moment.at_s, str(event.get("cause") or event.get("reason") or "ended")
                )
            case "adopted":
                self.adopt(names_in(event.get("workers")))
            case "generation":
                self.form(moment)
            case "finish":
                self.close(list(self.open), moment.at_s, "the run ended")
        self.last = moment.at_s

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

    def form(self, moment: Moment) -> None:
        if self.orphaned is not None:
            self.adopt([])
        self.close(list(self.open), moment.at_s, "next generation")
        self.generation = int(moment.event.get("generation") or self.generation + 1)
        for rank, item in enumerate(names_in(moment.event.get("workers"))):
            seen = self.known.get(item)
            node = node_text(str(seen.event.get("node") or "")) if seen else ""
            pid = seen.event.get("pid") if seen else None
            self.open[item] = Stretch(rank, self.generation, item, moment.at_s, None, node, pid)


def lanes(moments: Sequence[Moment]) -> tuple[Stretch, ...]:
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
    holder = next(
        (str(moment.event.get("holder") or "") for moment in moments if moment.kind == "attempt"),
        "",
    )
    finish = next((moment for moment in moments if moment.kind == "finish"), None)
    how = (
        str(finish.event.get("outcome") or "ended")
        if finish
        else ("" if newest else "lost without a word")
    )
    return Life(attempt, moments[0].at_s, moments[-1].at_s, holder, how)
