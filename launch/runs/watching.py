"""How long is a run looked at that goes on?

Rule: until it's over, or whoever looks has seen enough; looking changes nothing, so Ctrl-C ends
only that. A store that doesn't answer for a while ends it neither: what was seen last stays, and
that it's old is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from launch.runs.status_model import RunStatus
from orchestrator.errors import StorageUnavailable

WATCH_EVERY_S = 2.0
"""Each look reads the journal, which a store bills for; the driver writes every five seconds."""
OVER = frozenset({"done", "stopped", "failed", "dead"})


def until_over(
    look: Callable[[], RunStatus],
    show: Callable[[RunStatus], None],
    wait: Callable[[float], None] = time.sleep,
) -> RunStatus:
    """Look and show until the run is over; the last that was seen."""
    found = look()
    show(found)
    try:
        while found.state not in OVER:
            wait(WATCH_EVERY_S)
            found = _again(look, found)
            show(found)
    except KeyboardInterrupt:
        pass  # the run goes on
    return found


def _again(look: Callable[[], RunStatus], seen: RunStatus) -> RunStatus:
    try:
        return look()
    except StorageUnavailable as error:
        return replace(seen, trouble=(f"this is what was seen before: {error}",))
