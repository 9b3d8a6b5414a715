"""Which output does this driver hold, and what did earlier drivers leave in its journal?

Rule: the lease comes first, and the journal is read while it is held, since from then on nobody
else writes there. What of it is damaged stands in nobody's way: the rest counts, and it's told.
Whoever took the claim gives the lease up, unless an attempt was made of it: that
one gives it up itself, after the last line of its journal.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from orchestrator.config import RunConfig
from orchestrator.driver.past import KINDS, Past
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.store.checkpoints.run_checkpoints import list_saves
from orchestrator.store.objects.location import Location
from orchestrator.store.run.journal_parts import DamagedPart
from orchestrator.store.run.lease import Lease, acquire
from orchestrator.store.run.snapshots import LONG, keep_snapshot, read_folds
from orchestrator.workers.scheduling import THREADS, Scheduler

log = logging.getLogger("tfresume")

TOLD = 3
"""Damaged parts that are written down one by one: what spoils more of them spoils hundreds, and
``logs`` names all.
"""
AGAIN = 2
"""Further looks for a part that the store didn't give while it gave others, each of which asks a few
times itself: what it tells of losses is worth some seconds, but not the workers, which end when no
driver comes.
"""
_MISSED = "losses that stood there no longer count against the retry budgets"


class Claim:
    """The lease on an output, the past that its journal tells, and the clocks and threads of
    whoever holds it.
    """

    def __init__(
        self,
        config: RunConfig,
        output: Location,
        lease: Lease,
        past: Past,
        scheduler: Scheduler = THREADS,
    ) -> None:
        self.config, self.output, self.lease, self.past = config, output, lease, past
        self.scheduler = scheduler
        self._passed_on = False

    @classmethod
    def take(cls, config: RunConfig, output: Location, scheduler: Scheduler = THREADS) -> Self:
        """Take the lease. Raises OutputError where another driver lives or nothing can be written."""
        now, wait = scheduler.monotonic, scheduler.sleep
        lease = acquire(output, lease_s=config.lease_s, now=now, wait=wait)
        past = _past(output) if lease.attempt > 1 else Past()
        return cls(config, output, lease, past, scheduler)

    @property
    def attempt(self) -> int:
        """This driver's number; 1 where nobody has ever held the run."""
        return self.lease.attempt

    def pass_on(self) -> None:
        """Leave the lease to an attempt."""
        self._passed_on = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._passed_on:
            self.lease.release()


def _past(output: Location) -> Past:
    reading = read_folds(output, KINDS)
    for _ in range(AGAIN):
        if not any(part.passing for part in reading.damaged):
            break
        reading = read_folds(output, KINDS)
    keep_snapshot(output, reading, at_least=LONG)
    past = Past.of(reading.folds)
    return _mended(past, reading.damaged, output) if reading.damaged else past


def _mended(past: Past, damaged: Sequence[DamagedPart], output: Location) -> Past:
    """With what else is known of what a damaged part may have told."""
    for part in damaged:
        log.warning("%s", part)
    more = len(damaged) - TOLD
    told = tuple(f"{part.message}; {_MISSED}" for part in damaged[:TOLD])
    past = replace(past, damaged=told + ((f"{more} more parts are damaged",) if more > 0 else ()))
    saved = list_saves(output)
    if saved and saved[0].label != past.newest_label:
        newest = SaveCommitted(
            step=saved[0].step,
            generation=saved[0].generation_id.generation,
            checkpoint=saved[0].label,
            size_bytes=saved[0].size_bytes,
            stall_s=None,
            commit_s=None,
        )
        return replace(past, traces=replace(past.traces, newest=newest))
    return past
