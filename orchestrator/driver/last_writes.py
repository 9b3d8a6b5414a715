"""How long does a driver wait at its end for what is still to be written?

Rule: as long as the store gets something done, up to a bound. One that doesn't is left alone: the
next driver waits for the lease to run out, and lacks the last words of this one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from orchestrator.errors import StorageUnavailable
from orchestrator.store.run.journal import Journal
from orchestrator.workers.scheduling import Scheduler, StartedThread

log = logging.getLogger("tfresume")
STILL_S = 30.0
"""A store that has answered nothing for so long isn't waited for: a person waits at a prompt, and one
request with its first tries again fits into it.
"""
LONGEST_S = 300.0
"""However slowly it goes on: as long as a last save may take (``decide.endings.LAST_SAVE_S``)."""
AGAIN_S = 1.0
"""Between two tries while the store is away, each of which tries a few times itself."""
SLOW = "the output is slow: the last of what is to be written there is under way, and waited for as long as it moves, for %.0f s more at most"
GIVEN_UP = "the output took too long: the end of the journal may be missing there, and the next driver waits until the lease has run out"


def flush(journal: Journal, scheduler: Scheduler) -> None:
    """Write what the journal lacks. Nobody asks for it again, so a store that is away for a moment
    is waited for. Raises OutputError, StorageUnavailable.
    """
    until_s = scheduler.monotonic() + STILL_S
    while True:
        try:
            return journal.flush()
        except StorageUnavailable:
            if scheduler.monotonic() >= until_s:
                raise
        scheduler.sleep(AGAIN_S)


def wait_for(
    writer: StartedThread,
    is_over: Callable[[], bool],
    moved: Callable[[], object],
    scheduler: Scheduler,
) -> None:
    """Return when ``writer`` has ended, or has done nothing for STILL_S, or LONGEST_S have passed.

    Args:
        is_over: whether it has ended.
        moved: something that changes whenever the store has got something done.
    """
    until_s = scheduler.monotonic() + LONGEST_S
    while True:
        before = moved()
        writer.join(min(STILL_S, max(0.0, until_s - scheduler.monotonic())))
        if is_over():
            return
        left_s = until_s - scheduler.monotonic()
        if left_s <= 0.0 or moved() == before:
            log.warning(GIVEN_UP)
            return
        log.warning(SLOW, left_s)
