"""When did each event of a journal happen, on one clock for the whole run?

Rule: within an attempt the driver's own monotonic seconds (``t_s``) count where they're there, else
the unix seconds ``at``. Attempts are placed beside each other by ``at``, the only clock they share;
time never runs backwards, and what a driver that had been taken over wrote later stands at the
moment of the take-over. Drivers' clocks that disagree can shorten or lengthen a gap between two
attempts, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.journal.event import JournalEvent


@dataclass(frozen=True)
class Moment:
    """One event, ``at_s`` seconds after the run's first one."""

    at_s: float
    attempt: int
    event: JournalEvent


@dataclass
class Clock:
    """Places events one by one, in the order of attempts and of writing. An event that names an
    earlier attempt than the one before it stands with the later one.

    Attributes:
        attempt: of the last event; None before the first.
        origin, start, last: unix seconds of the run's first event, of the attempt's, of the last.
        first_at, first_t_s: what the attempt's first event says.
    """

    attempt: int | None = None
    origin: float = 0.0
    start: float = 0.0
    last: float = 0.0
    first_at: float | None = None
    first_t_s: float | None = None

    def place(self, event: JournalEvent) -> Moment:
        """When the event happened, as far as the events before it tell: a driver that had been
        taken over by then isn't known yet.
        """
        number = number_of(event)
        if self.attempt is None or number > self.attempt:
            self._begin(number, event)
        self.last = max(self.last, self.start + self._elapsed(event))
        assert self.attempt is not None
        return Moment(round(self.last - self.origin, 4), self.attempt, event)

    def _begin(self, number: int, event: JournalEvent) -> None:
        told = event.at if event.at is not None else self.start
        if self.attempt is None:
            self.origin = self.start = told
        else:
            self.start = max(told, self.start)
        self.attempt, self.last = number, self.start
        self.first_at, self.first_t_s = event.at, event.t_s

    def _elapsed(self, event: JournalEvent) -> float:
        if self.first_t_s is not None and event.t_s is not None:
            return event.t_s - self.first_t_s
        if self.first_at is not None and event.at is not None:
            return event.at - self.first_at
        return self.last - self.start


def number_of(event: JournalEvent) -> int:
    """The attempt of an event; 1 where it doesn't say."""
    return 1 if event.attempt is None else event.attempt


def timeline(events: Sequence[JournalEvent]) -> tuple[Moment, ...]:
    """All events on one clock, in the order of the journal; events without a usable ``at`` stand at
    the one before.
    """
    clock = Clock()
    placed = [clock.place(event) for event in sorted(events, key=number_of)]
    until, found = math.inf, []
    for moment in reversed(placed):
        # Within an attempt time doesn't run backwards, so that only a take-over takes any back
        until = min(until, moment.at_s)
        found.append(moment if moment.at_s == until else replace(moment, at_s=until))
    return tuple(reversed(found))
