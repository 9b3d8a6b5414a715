"""What did a run spend its time on, and how much of it was useful?

Rule: every second between the run's first event and its last belongs to exactly one kind. A second
is useful where the group was training, unless that work was done again later. Time between an
orderly end and the next start of the same command isn't the run's.

::

    attempt ─ start ─(staging)─ training ─(save stall)─ training ─[recovery]─ training ─ waiting ─
    ... finish
                                                                      ▲
          painted afterwards, from the first symptom to the first useful step, as the incident's
          record says

The account is kept as the events come (``Account``), in bounded memory: stretches so long past that
nothing reaches back to them any more are added up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from orchestrator.decide.last_words import LastStep
from orchestrator.decide.timeline import Clock, Moment, number_of
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.group_events import (
    GenerationFormed,
    TrainingBegan,
    WaitingForWorkers,
    WorkersAdopted,
)
from orchestrator.journal.run_events import IncidentOver, ProgressMade, RunEnded
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.journal.worker_events import CheckpointStaged, LossOfWorker, WorkerHung

KEPT = 1024
"""Stretches that can still be painted over. An incident that is told reaches back over its own few,
and a save over one; each hour of a run makes some dozens.
"""


class Spent(Enum):
    """What a second was spent on."""

    USEFUL = "useful"
    START = "start"
    STAGING = "staging"
    SAVE_STALL = "save_stall"
    RECOVERY = "recovery"
    REDONE = "redone"
    WAITING = "waiting"


@dataclass(frozen=True)
class Span:
    """One stretch of the run's time, in seconds since its first event."""

    kind: Spent
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end_s - self.begin_s


@dataclass(frozen=True)
class Goodput:
    """Seconds by kind; they add up to ``wall_s``."""

    wall_s: float
    useful_s: float
    start_s: float
    staging_s: float
    save_stall_s: float
    recovery_s: float
    redone_s: float
    waiting_s: float

    @property
    def fraction(self) -> float:
        """Useful time over wall time, 0 to 1; 0 where no time has passed."""
        return self.useful_s / self.wall_s if self.wall_s > 0 else 0.0

    def as_dict(self) -> dict[str, float]:
        """As ``--json`` shows it."""
        parts = {f"{kind.value}_s": getattr(self, f"{kind.value}_s") for kind in Spent}
        return {"fraction": round(self.fraction, 4), "wall_s": round(self.wall_s, 3)} | {
            k: round(v, 3) for k, v in parts.items()
        }


def goodput(events: Sequence[JournalEvent]) -> Goodput:
    """The account of a journal's events."""
    account = Account()
    for event in sorted(events, key=number_of):
        account.take(event)
    return account.goodput()


def spans(moments: Sequence[Moment]) -> tuple[Span, ...]:
    """The run's time in stretches, in order and without overlap."""
    account = Account()
    for moment in moments:
        account.place(moment)
    return tuple(_joined(account.stretches()))


@dataclass
class Account:
    """What a run spent its time on, as far as its events were told: a fold of the journal.

    Attributes:
        kind, begin_s: what time is spent on now, and since when.
        last_s: the last event of the attempt that counts; ``finished``: it has ended.
        painted: the stretches before, as (kind, begin, end), the newest ``KEPT`` at least.
        settled: seconds by kind of those before these.
        rate: steps per second as told last; ``redone_s``: seconds whose work was done again.
    """

    clock: Clock = field(default_factory=Clock)
    attempt: int | None = None
    kind: str = Spent.START.value
    begin_s: float = 0.0
    last_s: float = 0.0
    finished: bool = False
    painted: list[list[Any]] = field(default_factory=list)
    settled: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    redone_s: float = 0.0
    last_step: LastStep = field(default_factory=LastStep)

    def take(self, event: JournalEvent) -> None:
        """One more event, in the order of the journal."""
        self.place(self.clock.place(event))
        self._settle()

    def place(self, moment: Moment) -> None:
        """One more event, at its time."""
        event = moment.event
        if moment.attempt != self.attempt:
            self._attempt(moment)
        if not self.finished:
            after = _after(Spent(self.kind), event)
            if after.value != self.kind:
                self._close(moment.at_s)
                self.kind = after.value
            self.last_s = moment.at_s
        self._redone(event)
        self.last_step.take(moment)
        self._repaint(moment)
        self.finished = self.finished or isinstance(event, RunEnded)

    def goodput(self) -> Goodput:
        """The account up to the last event."""
        sums = {kind: self.settled.get(kind.value, 0.0) for kind in Spent}
        for span in self.stretches():
            sums[span.kind] += span.seconds
        redone = min(self.redone_s, sums[Spent.USEFUL])
        wall_s = sum(sums.values())
        sums[Spent.USEFUL] -= redone
        sums[Spent.REDONE] += redone
        return Goodput(wall_s, **{f"{kind.value}_s": seconds for kind, seconds in sums.items()})

    def stretches(self) -> list[Span]:
        """Those that aren't settled, up to the last event."""
        open_now = Span(Spent(self.kind), self.begin_s, self.last_s)
        return [*_spans(self.painted), *([open_now] if open_now.seconds > 0 else [])]

    def _attempt(self, moment: Moment) -> None:
        """The time of the attempt before ends; without an orderly end, its successor's recovery
        begins there.
        """
        if self.attempt is not None:
            self._cut(moment.at_s)
            self._close(self.last_s)
            if not self.finished:
                self._add(Spent.RECOVERY, self.last_s, moment.at_s)
            self.kind = (Spent.START if self.finished else Spent.RECOVERY).value
        self.begin_s, self.attempt, self.finished = moment.at_s, moment.attempt, False

    def _cut(self, at_s: float) -> None:
        """What a driver wrote after it had been taken over stands at the take-over."""
        self.last_s = min(self.last_s, at_s)
        while self.painted and self.painted[-1][2] > at_s:
            self.painted[-1][2] = at_s
            if self.painted[-1][1] >= at_s:
                self.painted.pop()
        self.begin_s = min(self.begin_s, at_s)

    def _close(self, end_s: float) -> None:
        """What was going on is over; what follows begins."""
        self._add(Spent(self.kind), self.begin_s, end_s)
        self.begin_s = max(self.begin_s, end_s)

    def _add(self, kind: Spent, begin_s: float, end_s: float) -> None:
        if end_s > begin_s:
            self.painted.append([kind.value, begin_s, end_s])

    def _redone(self, event: JournalEvent) -> None:
        """Steps that were done twice, at the rate that the run had before."""
        if isinstance(event, ProgressMade):
            self.rate = event.steps_per_s or self.rate
        elif isinstance(event, IncidentOver) and self.rate > 0:
            self.redone_s += event.steps_redone / self.rate

    def _repaint(self, moment: Moment) -> None:
        """What an event says of the time before it."""
        event, end = moment.event, moment.at_s
        match event:
            case IncidentOver():
                begin, kind, over = end - (event.recovered_s or 0.0), Spent.RECOVERY, Spent.USEFUL
            case CheckpointStaged():
                begin, kind, over = end - event.seconds, Spent.STAGING, Spent.START
            case SaveCommitted():
                # Where exactly the copy stood in the save doesn't matter to the sum
                begin, kind, over = end - (event.stall_s or 0.0), Spent.SAVE_STALL, Spent.USEFUL
            case RunEnded():
                begin = self.last_step.reached_s(event, end)
                kind, over = Spent.SAVE_STALL, Spent.USEFUL
            case _:
                return
        if not self.finished:
            self._close(end)
        _paint(self.painted, [kind.value, begin, end], over.value)

    def _settle(self) -> None:
        if len(self.painted) < 2 * KEPT:
            return
        for kind, begin_s, end_s in self.painted[:-KEPT]:
            self.settled[kind] = self.settled.get(kind, 0.0) + end_s - begin_s
        del self.painted[:-KEPT]


def _spans(stretches: Sequence[Sequence[Any]]) -> list[Span]:
    return [Span(Spent(kind), begin_s, end_s) for kind, begin_s, end_s in stretches]


def _after(kind: Spent, event: JournalEvent) -> Spent:
    """What time is spent on after an event."""
    match event:
        case TrainingBegan() | IncidentOver():
            return Spent.USEFUL
        case WorkersAdopted() if event.complete:
            return Spent.USEFUL
        case WaitingForWorkers():
            return Spent.WAITING
        case GenerationFormed():
            return kind if kind in (Spent.START, Spent.RECOVERY) else Spent.RECOVERY
        case LossOfWorker() | WorkerHung() if event.rank is not None and kind is Spent.USEFUL:
            return Spent.RECOVERY
        case _:
            return kind


def _paint(stretches: list[list[Any]], new: list[Any], over: str) -> None:
    """Replace what lies inside ``new`` and is of the kind ``over``; ``stretches`` is in order."""
    kind, new_begin_s, new_end_s = new
    first = max(0, bisect_right(stretches, new_begin_s, key=lambda item: item[1]) - 1)
    last = bisect_left(stretches, new_end_s, key=lambda item: item[1])
    changed: list[list[Any]] = []
    for was, begin_s, end_s in stretches[first:last]:
        begin, end = max(begin_s, new_begin_s), min(end_s, new_end_s)
        if was != over or begin >= end:
            changed.append([was, begin_s, end_s])
            continue
        parts = ([was, begin_s, begin], [kind, begin, end], [was, end, end_s])
        changed += [part for part in parts if part[2] > part[1]]
    stretches[first:last] = changed


def _joined(spans: list[Span]) -> list[Span]:
    found: list[Span] = []
    for span in spans:
        if found and found[-1].kind is span.kind and abs(found[-1].end_s - span.begin_s) < 1e-6:
            found[-1] = Span(span.kind, found[-1].begin_s, span.end_s)
        else:
            found.append(span)
    return found
