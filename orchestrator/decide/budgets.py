"""How often may workers be lost, and a node fail, before the run stops or the node is avoided?

Rule: disturbances are counted in a sliding window, and what is lost together is one: a rack of 61
workers is one loss for a group whose survivors hold the state. A budget is a value: spending
returns a new one, and each entry is journaled, so that a driver that dies in mid-recovery still
pays (``from_journal``). Planned losses (preemption) never count against the job, however many there
are.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from orchestrator.decide.causes import Cause
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.worker_events import LossOfWorker

WINDOW_S = 3600.0
"""An hour, since the setting that it serves is ``max_losses_per_hour``."""
TOGETHER_S = 10.0
"""Losses within so long are one disturbance: Ray notices a lost node, and its workers, within some
seconds.
"""
NODE_STRIKES = 3
"""Disturbances on one node within the window before no more workers are started there. One may be
anybody's, two a coincidence of a busy hour; a node that is at fault soon brings the third.
"""
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
"""The second failure in a row is waited for hardly at all, since most are passing; each further one
doubles the wait, up to half a minute, in which a run isn't held up for long once the cause is gone.
"""
LONGEST_START_BACKOFF_S = 300.0
"""For workers that end before they're warm while the group goes on without them: nobody waits for
those.
"""


@dataclass(frozen=True)
class Entry:
    """One loss."""

    cause: Cause
    node: str
    at_s: float


@dataclass(frozen=True)
class Budgets:
    """Losses within the window. ``limit`` is ``max_losses_per_hour``."""

    limit: int
    entries: tuple[Entry, ...] = ()

    def spend(self, cause: Cause, node: str, now_s: float) -> Budgets:
        """The budgets after one more loss."""
        recent = tuple(entry for entry in self.entries if now_s - entry.at_s < WINDOW_S)
        return replace(self, entries=(*recent, Entry(cause, node, now_s)))

    def spent(self, now_s: float) -> int:
        """Unplanned disturbances within the window."""
        return _disturbances(entry for entry in self._recent(now_s) if _counts(entry.cause))

    def exhausted(self, now_s: float) -> str:
        """Why no further loss can be borne, or an empty string."""
        if self.spent(now_s) > self.limit:
            return f"{self.spent(now_s)} unplanned worker losses within an hour, allowed are {self.limit}"
        return ""

    def excluded_nodes(self, now_s: float) -> tuple[str, ...]:
        """Nodes that keep failing, sorted."""
        losses: dict[str, list[Entry]] = {}
        for entry in self._recent(now_s):
            if _counts(entry.cause) and entry.node:
                losses.setdefault(entry.node, []).append(entry)
        return tuple(
            sorted(
                node for node, entries in losses.items() if _disturbances(entries) >= NODE_STRIKES
            )
        )

    def _recent(self, now_s: float) -> Iterable[Entry]:
        return (entry for entry in self.entries if now_s - entry.at_s < WINDOW_S)


def _disturbances(entries: Iterable[Entry]) -> int:
    count, began_s = 0, float("-inf")
    for at_s in sorted(entry.at_s for entry in entries):
        if at_s - began_s > TOGETHER_S:
            count, began_s = count + 1, at_s
    return count


def _counts(cause: Cause) -> bool:
    return cause not in (Cause.PREEMPTED, Cause.RELEASED)


UNPLANNED = frozenset(cause.value for cause in Cause if _counts(cause))
"""Causes of losses that the budget pays for, in the journal's words."""


def from_journal(
    events: Iterable[JournalEvent], limit: int, now_s: float, now_unix_s: float
) -> Budgets:
    """The budgets that an earlier driver left, its losses of workers being moved onto this driver's
    clock.
    """
    budgets = Budgets(limit)
    for event in events:
        if isinstance(event, LossOfWorker) and not event.spared and event.at is not None:
            at_s = now_s - max(0.0, now_unix_s - event.at)
            known = event.cause in {cause.value for cause in Cause}
            cause = Cause(event.cause) if known else Cause.DIED
            budgets = replace(
                budgets, entries=(*budgets.entries, Entry(cause, event.node or "", at_s))
            )
    return budgets


@dataclass
class Losses:
    """The losses that may still count: a fold of the journal."""

    told: list[LossOfWorker] = field(default_factory=list)

    def take(self, event: JournalEvent) -> None:
        """One more event. A loss that was over a window before the newest one no longer counts."""
        if isinstance(event, LossOfWorker) and not event.spared and event.at is not None:
            since = event.at - WINDOW_S
            recent = [loss for loss in self.told if loss.at is not None and loss.at > since]
            self.told = [*recent, event]


def backoff_s(failures: int, worker: str, longest_s: float = LONGEST_BACKOFF_S) -> float:
    """Seconds to wait before starting ``worker``: none the first time, then doubling, with a jitter
    that the name decides.
    """
    if failures <= 1:
        return 0.0
    jitter = 0.75 + 0.5 * (zlib.crc32(worker.encode()) % 1000) / 1000
    return float(min(longest_s, FIRST_BACKOFF_S * 2.0 ** min(failures - 2, 10)) * jitter)
