"""How does somebody look on who may be slow, without anybody waiting?

Rule: a thread of its own calls it. The loop only leaves a note; where too many wait, signs of
progress are left out and events aren't. One that raises is dropped and closed, and said. What it
hasn't taken in by a deadline at the run's end is left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.driver.measurements import Counted
from orchestrator.driver.observer import Observer, RunProgress

log = logging.getLogger("tfresume")

MOST_PROGRESS = 50
"""Signs of progress that wait: ten seconds' worth. A tracker that is further behind gets the newest
ones.
"""
CLOSE_S = 30.0
"""Longest wait at the run's end: a tracker sends what it holds then, over a slow network."""


class ObserverThread:
    """Passes what it sees on to ``observer``, in another thread.

    Args:
        called: how messages begin: "the callback mlflow".
        close_s: longest wait for it at the end.
    """

    def __init__(self, observer: Observer, called: str, close_s: float = CLOSE_S) -> None:
        self._observer, self._called, self._close_s = observer, called, close_s
        self._notes: deque[Callable[[], None]] = deque()
        self._progress: deque[RunProgress] = deque(maxlen=MOST_PROGRESS)
        self._changed = threading.Condition()
        self._closing = False
        self._dropped = False
        self._thread = threading.Thread(target=self._work, name=f"tfresume: {called}", daemon=True)

    def past(self, counted: Counted) -> None:
        """The number of incidents under earlier drivers, for whoever asks for it; returns at once."""
        told = getattr(self._observer, "past", None)
        if told is not None:
            self._leave(lambda: told(counted.incidents))

    def event(self, event: Mapping[str, Any]) -> None:
        """One record of the journal; returns at once."""
        self._leave(lambda: self._observer.event(event))

    def _leave(self, note: Callable[[], None]) -> None:
        with self._changed:
            if not self._dropped:  # nobody would take it out again
                self._notes.append(note)
                self._wake()

    def progress(self, progress: RunProgress) -> None:
        """How far the run is; returns at once."""
        with self._changed:
            self._progress.append(progress)
            self._wake()

    def close(self, longest_s: float | None = None) -> None:
        """Let it take in what waits, and close it, within ``longest_s``, else ``close_s``."""
        with self._changed:
            self._closing = True
            self._wake()
        began_s = time.monotonic()
        self._thread.join(self._close_s if longest_s is None else longest_s)
        if self._thread.is_alive():
            waited_s = time.monotonic() - began_s
            log.warning(
                "%s didn't end within %.0f s; events that it wasn't told: %d",
                *(self._called, waited_s, self._emptied()),
            )

    def _wake(self) -> None:
        if self._thread.ident is None:  # there is none for a run that is refused before it's told
            self._thread.start()
        self._changed.notify()

    def _emptied(self) -> int:
        """Leave out what waits; how many events it were."""
        with self._changed:
            left = len(self._notes)
            self._notes.clear()
            self._progress.clear()
            return left

    def _work(self) -> None:
        try:
            while self._one():
                pass
        except Exception as error:  # noqa: BLE001 - whoever only looks on mustn't end a training run
            with self._changed:
                self._dropped = True
                self._notes.clear()
            self._warn("is dropped since it failed", error)
        close = getattr(self._observer, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:  # noqa: BLE001 - see above
                self._warn("couldn't be closed", error)

    def _warn(self, what: str, error: Exception) -> None:
        log.warning("%s %s: %s: %s", self._called, what, type(error).__name__, error)

    def _one(self) -> bool:
        """Pass one note on; whether there may be another."""
        with self._changed:
            self._changed.wait_for(lambda: self._notes or self._progress or self._closing)
            note = self._notes.popleft() if self._notes else None
            progress = self._progress.popleft() if note is None and self._progress else None
        if note is not None:
            note()
        elif progress is not None:
            self._observer.progress(progress)
        return note is not None or progress is not None
