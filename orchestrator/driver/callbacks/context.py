"""What is a callback told of the run that it looks at?

Rule: nothing secret. A callback is an ``Observer``: ``event`` gets each record of the journal,
``progress`` how far the run is, ``close`` (where it has one) the end. ``past`` (where it has one)
gets the records of earlier drivers, once the run is this driver's: only there is anything opened,
since a command may still be refused when a callback is made. It's called in a thread of its own, so
it may be slow; one that raises is dropped and closed, and the run goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GROUP = "tfresume.callbacks"
"""The group of entry points in which packages name their callbacks."""


@dataclass(frozen=True)
class CallbackContext:
    """The run.

    Attributes:
        run: the output's URL, without credentials.
        source: the checkpoint or directory that it continues, without credentials.
        config: its settings by key, without credentials; those that were left at their defaults as
            well.
    """

    run: str
    source: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people call it: the last part of its URL."""
        return self.run.rstrip("/").rpartition("/")[2] or self.run

    @property
    def ident(self) -> str:
        """The same for every driver of this run, so that a tracker goes on with what it has."""
        return hashlib.sha256(self.run.rstrip("/").encode()).hexdigest()[:16]
