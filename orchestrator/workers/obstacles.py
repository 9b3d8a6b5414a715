"""What does an error while joining mean for the next try?

Rule: what another try may help is passing; what is the checkpoint's or the graph's own is named, so
that it isn't tried for ever.
"""

from __future__ import annotations

from orchestrator.decide import events as ev
from orchestrator.errors import (
    ConfigError,
    CorruptCheckpoint,
    GraphMismatch,
    GraphRefused,
    OrchestratorError,
    SourceError,
    StorageUnavailable,
)


def obstacle(error: OrchestratorError, *, loaded: bool) -> ev.Obstacle:
    """What an error while joining means for the next try. ``loaded``: the state was there already,
    so that it isn't the checkpoint's.
    """
    match error:
        case StorageUnavailable():
            return ev.Obstacle.STORE
        case GraphMismatch() | GraphRefused():
            return ev.Obstacle.MISFIT
        case CorruptCheckpoint() if not loaded:
            return ev.Obstacle.DAMAGED
        case SourceError() if not loaded:
            return ev.Obstacle.MISSING
        case ConfigError() if loaded:
            return ev.Obstacle.MISFIT
        case _:
            return ev.Obstacle.PASSING
