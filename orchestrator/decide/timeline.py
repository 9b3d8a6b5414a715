"""When did each event of a journal happen, on one clock for the whole run?

Rule: within an attempt the driver's own monotonic seconds (``t_s``) count where they're there, else
the unix seconds ``at``. Attempts are placed beside each other by ``at``, the only clock they share;
time never runs backwards, and what a driver that had been taken over wrote later stands at the
moment of the take-over. Drivers' clocks that disagree can shorten or lengthen a gap between two
attempts, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.journal.event import JournalEvent


@dataclass(frozen=True)
class Moment:
    """One event, ``at_s`` seconds after the run's first one."""

    at_s: float
    attempt: int
    event: JournalEvent


def timeline(events: Sequence[JournalEvent]) -> tuple[Moment, ...]:
    """All events on one clock, in the order of the journal; events without a usable ``at`` stand at
    the one before.
    """
    groups: dict[int, list[JournalEvent]] = {}
    for event in events:
        groups.setdefault(1 if event.attempt is None else event.attempt, []).append(event)
    numbers = sorted(groups)
    starts: list[float] = []
    for number in numbers:
        at = groups[number][0].at
        before = starts[-1] if starts else None
        told = at if at is not None else before or 0.0
        starts.append(told if before is None else max(told, before))
    placed: list[Moment] = []
    for index, number in enumerate(numbers):
        until = starts[index + 1] if index + 1 < len(starts) else float("inf")
        placed += _placed(number, groups[number], starts[index], until, starts[0])
    return tuple(placed)


def _placed(
    attempt: int, events: Sequence[JournalEvent], start: float, until: float, origin: float
) -> list[Moment]:
    first = events[0]
    found: list[Moment] = []
    last = start
    for event in events:
        last = max(last, min(start + _elapsed(first, event, last - start), until))
        found.append(Moment(round(last - origin, 4), attempt, event))
    return found


def _elapsed(first: JournalEvent, event: JournalEvent, otherwise: float) -> float:
    if first.t_s is not None and event.t_s is not None:
        return event.t_s - first.t_s
    if first.at is not None and event.at is not None:
        return event.at - first.at
    return otherwise
