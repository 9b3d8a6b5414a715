"""What time is it, and who runs when?

Rule: a driver, and what commands workers for it, reads no clock, sleeps nowhere and starts no thread
but through a ``Scheduler``. ``THREADS`` is the operating system's; the tests put another in its
place, in which everything that happens follows from one seed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol


class Flag(Protocol):
    """``threading.Event``, as far as it's used."""

    def set(self) -> None:
        """Raise it for good."""

    def wait(self, timeout_s: float) -> bool:
        """Whether it's raised; returns at once where it is, else within ``timeout_s``."""


class Line(Protocol):
    """A queue between threads, first in first out. ``put`` may be called by a signal's handler."""

    def put(self, item: Any) -> None:
        """Add to the end."""

    def get(self, timeout_s: float | None = None) -> Any:
        """The first, once there is one. Raises queue.Empty after ``timeout_s``."""


class StartedThread(Protocol):
    """``threading.Thread``, as far as it's used."""

    def join(self, timeout_s: float) -> None:
        """Return when it has ended, or after ``timeout_s``."""


class Scheduler(Protocol):
    """Clocks, in seconds, and threads that don't keep their process alive."""

    def monotonic(self) -> float:
        """A clock that only goes forward, from anywhere."""

    def unix(self) -> float:
        """This machine's idea of the time, for people and for records."""

    def sleep(self, seconds: float) -> None:
        """Return so much later."""

    def start(self, work: Callable[[], None], name: str) -> StartedThread:
        """Have ``work`` done by a thread of its own."""

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Have ``work`` done in ``delay_s``."""

    def flag(self) -> Flag:
        """A new one, not raised."""

    def line(self) -> Line:
        """A new one, empty."""


class _Line:
    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, item: Any) -> None:
        self._queue.put(item)

    def get(self, timeout_s: float | None = None) -> Any:
        return self._queue.get(timeout=None if timeout_s is None else max(0.0, timeout_s))


class Threads:
    """The operating system's clocks and threads."""

    def monotonic(self) -> float:
        """See ``Scheduler``, as for all of these."""
        return time.monotonic()

    def unix(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def start(self, work: Callable[[], None], name: str) -> StartedThread:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        timer = threading.Timer(delay_s, work)
        timer.daemon = True
        timer.start()

    def flag(self) -> Flag:
        return threading.Event()

    def line(self) -> Line:
        return _Line()


THREADS: Scheduler = Threads()
"""This process's."""
