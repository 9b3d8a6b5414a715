"""How often may what fail before the run stops?

Rule: one budget per cause, counted in a sliding window. A budget is a value: spending returns a new one, and each entry is journaled, so
that a driver that dies in mid-recovery still pays (``from_journal``). Planned losses (preemption) never count against the job.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from orchestrator.decide.events import Cause

WINDOW_S = 3600.0
PREEMPTIONS_PER_LOSS = 10
"""Preemptions are the platform's doing: ten of them weigh what one crash does."""
NODE_STRIKES = 3
"""Unplanned losses on one node within the window before no more workers are started there."""
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0


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
        """Unplanned losses within the window."""
        return sum(1 for entry in self._recent(now_s) if _counts(entry.cause))

    def exhausted(self, now_s: float) -> str:
        """Why no further loss can be borne, or an empty string."""
        if self.spent(now_s) > self.limit:
            return f"{self.spent(now_s)} unplanned worker losses within an hour, allowed are {self.limit}"
        planned = sum(1 for entry in self._recent(now_s) if entry.cause is Cause.PREEMPTED)
        if planned > self.limit * PREEMPTIONS_PER_LOSS:
            return f"{planned} preemptions within an hour, allowed are {self.limit * PREEMPTIONS_PER_LOSS}"
        return ""

    def excluded_nodes(self, now_s: float) -> tuple[str, ...]:
        """Nodes that keep failing, sorted."""
        strikes: dict[str, int] = {}
        for entry in self._recent(now_s):
            if _counts(entry.cause) and entry.node:
                strikes[entry.node] = strikes.get(entry.node, 0) + 1
        return tuple(sorted(node for node, count in strikes.items() if count >= NODE_STRIKES))

    def _recent(self, now_s: float) -> Iterable[Entry]:
        return (entry for entry in self.entries if now_s - entry.at_s < WINDOW_S)


def _counts(cause: Cause) -> bool:
    return cause not in (Cause.PREEMPTED, Cause.RELEASED)


def from_journal(events: Iterable[Mapping[str, object]], limit: int, now_s: float, now_unix_s: float) -> Budgets:
    """The budgets that an earlier driver left, its ``worker_lost`` events being moved onto this driver's clock."""
    budgets = Budgets(limit)
    for event in events:
        at = event.get("at")
        if event.get("event") == "worker_lost" and isinstance(at, int | float):
            at_s = now_s - max(0.0, now_unix_s - float(at))
            entry = Entry(Cause(str(event.get("cause", "died"))), str(event.get("node", "")), at_s)
            budgets = replace(budgets, entries=(*budgets.entries, entry))
    return budgets


def backoff_s(failures: int, worker: str) -> float:
    """Seconds to wait before starting ``worker``: none the first time, then doubling, with a jitter that the name decides."""
    if failures <= 1:
        return 0.0
    jitter = 0.75 + 0.5 * (zlib.crc32(worker.encode()) % 1000) / 1000
    return float(min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 2, 10)) * jitter)
