"""Who watches a run while it goes on, and what do they see?

Rule: observers see what is journaled, in its order, and progress besides. They're called from the
driver's loop, so they must be quick; one that raises is dropped and closed, and the run goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

log = logging.getLogger("tfresume")


@dataclass(frozen=True)
class RunProgress:
    """How far the run is.

    Attributes:
        step: the last step that all workers have finished.
        loss: of rank 0's last batch, None where the graph names none.
        steps_per_s: global steps per second, 0 while it isn't known.
        checkpoint: ``a0001-g0001/NAME-11000``, the newest committed one, None before the first.
        until: the step at which the run ends.
        values, summaries: the watched tensors and the graph's own scalar summaries on rank 0.
    """

    step: int
    loss: float | None
    steps_per_s: float
    checkpoint: str | None
    world_size: int
    until: int
    generation: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    summaries: Mapping[str, float] = field(default_factory=dict)


class Observer(Protocol):
    """Sees a run."""

    def event(self, event: Mapping[str, Any]) -> None:
        """One journal event."""

    def progress(self, progress: RunProgress) -> None:
        """A few times a second while training."""


class Observers:
    """Several observers as one. ``close`` is called where an observer has it."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)

    def add(self, observer: Observer) -> None:
        """One more."""
        self._observers.append(observer)

    def past(self, counted: object) -> None:
        """What earlier drivers of the run have counted (``measurements.Counted``); told to those
        that ask for it (``past``).
        """
        self._each("past", counted)

    def event(self, event: Mapping[str, Any]) -> None:
        self._each("event", event)

    def progress(self, progress: RunProgress) -> None:
        self._each("progress", progress)

    def close(self) -> None:
        """The run has ended."""
        for observer in self._observers:
            _close(observer)

    def _each(self, method: str, value: object) -> None:
        for observer in list(self._observers):
            try:
                if method != "past" or hasattr(observer, method):
                    getattr(observer, method)(value)
            except Exception as error:  # noqa: BLE001 - whoever only looks on mustn't end a training run
                log.warning(
                    "an observer is dropped since it failed: %s: %s", type(error).__name__, error
                )
                self._observers.remove(observer)
                _close(observer)


def _close(observer: Observer) -> None:
    close = getattr(observer, "close", None)
    if close is None:
        return
    try:
        close()
    except Exception as error:  # noqa: BLE001 - the run's answer is there
        log.warning("an observer couldn't be closed: %s: %s", type(error).__name__, error)
