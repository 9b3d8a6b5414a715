"""What does the loop hear of an error that the thread which writes to the output has met?

Rule: an error of the store is told in its own words; one of this project's code is logged with its
traceback, and told by its type.
"""

from __future__ import annotations

import logging

from orchestrator.decide import events as ev
from orchestrator.errors import OrchestratorError, StorageUnavailable

log = logging.getLogger("tfresume")


def not_found(error: Exception) -> ev.Found:
    """The answer to a search that came to nothing."""
    if not isinstance(error, OrchestratorError):
        return ev.Found(None, detail=reason_of(error))
    return ev.Found(
        None,
        detail=error.message,
        error=error.as_dict(),
        passing=isinstance(error, StorageUnavailable),
    )


def reason_of(error: Exception) -> str:
    """Why something failed, for an event."""
    if isinstance(error, OrchestratorError):
        return str(error)
    log.error("an error of our own at the output", exc_info=error)
    return f"{type(error).__name__}: {error}"
