"""Why is a worker gone, why couldn't it join, and who asked for the end?

Rule: a cause is told only as finely as something is decided by it: which budget pays for a loss,
whether another try can help, how the run ends. Everything finer is an event's ``detail``, which
people read and no rule does.
"""

from __future__ import annotations

from enum import Enum


class Cause(Enum):
    """Why a worker is gone."""

    DIED = "died"
    """The process ended by itself or by a signal (SIGKILL, out of memory)."""
    NODE = "node"
    """Its node is gone."""
    HUNG = "hung"
    """It stopped answering or stepping, and was killed for it."""
    ERROR = "error"
    """It raised something that isn't the user's fault; the detail says what."""
    PREEMPTED = "preempted"
    """A planned loss: SIGTERM, or a drain notice for its node."""
    RELEASED = "released"
    """We ended it ourselves (used up, shrunk away)."""


class Obstacle(Enum):
    """Why a member that is alive couldn't join."""

    PASSING = "passing"
    """A peer is gone, a port is taken: another try may go well."""
    DAMAGED = "damaged"
    """The checkpoint's bytes aren't what they should be."""
    MISSING = "missing"
    """The checkpoint isn't there any more."""
    STORE = "store"
    """The store doesn't answer."""
    MISFIT = "misfit"
    """Graph, checkpoint and configuration don't fit each other: no further try can help."""


class StopCause(Enum):
    """Who asked for the end."""

    SIGTERM = "SIGTERM"
    SIGINT = "SIGINT"
    REQUEST = "stop request"
