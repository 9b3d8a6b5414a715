"""What does a worker say that it is doing?

Rule: what may take differently long has a word of its own, since by it the driver decides whether a
worker that is silent is hung (``hang_bounds``).
"""

from __future__ import annotations

from enum import Enum


class Doing(Enum):
    """What a worker says that it is doing."""

    LOADING = "loading"
    """Its process runs and imports TensorFlow and the graph; it isn't warm yet."""
    IDLE = "idle"
    INPUT = "input"
    STEP = "step"
    """In a step, and not inside the session's run: it waits for its peers, or adds up."""
    COMPUTING = "computing"
    """In a step, inside the session's run, where it waits for no peer."""
    JOINING = "joining"
    STAGING = "staging"
    """Fetching and reading a checkpoint."""
    COPYING = "copying"
    """Its state, into host memory."""
    SAVING = "saving"
    """It stands still until its rows are in the store, since there's no room for a copy of them."""
