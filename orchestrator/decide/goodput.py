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
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from orchestrator.decide.timeline import Moment, timeline
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.group_events import (
    GenerationFormed,
    TrainingBegan,
    WaitingForWorkers,
    WorkersAdopted,
)
from orchestrator.journal.run_events import IncidentOver, ProgressMade, RunEnded
from orchestrator.journal.save_events import SaveAgreed, SaveCommitted
from orchestrator.journal.worker_events import CheckpointStaged, LossOfWorker, WorkerHung


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
    moments = timeline(events)
    sums = dict.fromkeys(Spent, 0.0)
    found = spans(moments)
    for span in found:
        sums[span.kind] += span.seconds
    redone = min(redone_s(moments), sums[Spent.USEFUL])
    sums[Spent.USEFUL] -= redone
    sums[Spent.REDONE] += redone
    return Goodput(
        sum(span.seconds for span in found),
        **{f"{kind.value}_s": seconds for kind, seconds in sums.items()},
    )


def redone_s(moments: Sequence[Moment]) -> float:
    """Seconds of training that were done twice: steps redone, at the rate that the run had before."""
    rate, total = 0.0, 0.0
    for moment in moments:
        event = moment.event
        if isinstance(event, ProgressMade):
            rate = event.steps_per_s or rate
        elif isinstance(event, IncidentOver) and rate > 0:
            total += event.steps_redone / rate
    return total


def spans(moments: Sequence[Moment]) -> tuple[Span, ...]:
    """The run's time in stretches, in order and without overlap."""
    painted = _base(moments)
    for moment in moments:
        event, end = moment.event, moment.at_s
        match event:
            case IncidentOver():
                span = Span(Spent.RECOVERY, end - (event.recovered_s or 0.0), end)
                painted = _paint(painted, span, {Spent.USEFUL})
            case CheckpointStaged():
                span = Span(Spent.STAGING, end - event.seconds, end)
                painted = _paint(painted, span, {Spent.START})
            case SaveCommitted():
                # Where exactly the copy stood in the save doesn't matter to the sum
                span = Span(Spent.SAVE_STALL, end - (event.stall_s or 0.0), end)
                painted = _paint(painted, span, {Spent.USEFUL})
            case RunEnded():
                span = Span(Spent.SAVE_STALL, _last_step_at(moments, moment, event), end)
                painted = _paint(painted, span, {Spent.USEFUL})
    return tuple(_joined(painted))


def _base(moments: Sequence[Moment]) -> list[Span]:
    found: list[Span] = []
    kind, begin, finished, attempt, last = Spent.START, 0.0, False, None, 0.0
    for moment in moments:
        if moment.attempt != attempt:
            if attempt is not None:
                found.append(Span(kind, begin, last))
                if not finished:
                    found.append(Span(Spent.RECOVERY, last, moment.at_s))
                kind = Spent.START if finished else Spent.RECOVERY
            begin, attempt, finished = moment.at_s, moment.attempt, False
        if not finished and (after := _after(kind, moment.event)) is not kind:
            found.append(Span(kind, begin, moment.at_s))
            kind, begin = after, moment.at_s
        if not finished:
            last = moment.at_s
        finished = finished or isinstance(moment.event, RunEnded)
    return [span for span in [*found, Span(kind, begin, last)] if span.seconds > 0]


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


def _last_step_at(moments: Sequence[Moment], finish: Moment, ended: RunEnded) -> float:
    """When the run's last step was done; from there to the end it waited for its last save.

    The save of that step is agreed on a little before the step is reached, so it's reckoned from
    the last known rate; it was reached no later than progress told it.
    """
    last = -1 if ended.step is None else ended.step
    agreed = reckoned = None
    told = finish.at_s
    for moment in moments:
        if moment.attempt != finish.attempt:
            continue
        event = moment.event
        if isinstance(event, SaveAgreed) and event.step == last:
            agreed = moment.at_s
        elif isinstance(event, ProgressMade) and event.step == last:
            told = min(told, moment.at_s)
        elif isinstance(event, ProgressMade) and event.steps_per_s > 0:
            reckoned = moment.at_s + (last - event.step) / event.steps_per_s
    return told if agreed is None else min(told, max(agreed, reckoned or agreed))


def _paint(spans: list[Span], new: Span, over: set[Spent]) -> list[Span]:
    """``spans`` with those parts inside ``new`` that are of a kind in ``over`` replaced; ``spans``
    is in order.
    """
    if new.seconds <= 0 or not spans:
        return spans
    first = max(0, bisect_right(spans, new.begin_s, key=lambda span: span.begin_s) - 1)
    last = bisect_left(spans, new.end_s, key=lambda span: span.begin_s)
    changed: list[Span] = []
    for span in spans[first:last]:
        begin, end = max(span.begin_s, new.begin_s), min(span.end_s, new.end_s)
        if span.kind not in over or begin >= end:
            changed.append(span)
            continue
        parts = (
            Span(span.kind, span.begin_s, begin),
            Span(new.kind, begin, end),
            Span(span.kind, end, span.end_s),
        )
        changed += [part for part in parts if part.seconds > 0]
    spans[first:last] = changed
    return spans


def _joined(spans: list[Span]) -> list[Span]:
    found: list[Span] = []
    for span in spans:
        if found and found[-1].kind is span.kind and abs(found[-1].end_s - span.begin_s) < 1e-6:
            found[-1] = Span(span.kind, found[-1].begin_s, span.end_s)
        else:
            found.append(span)
    return found
