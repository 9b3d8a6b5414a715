"""A clock that moves when somebody waits."""

from __future__ import annotations

from collections.abc import Callable


class FakeClock:
    """Monotonic seconds; ``wait`` moves them on and calls what is due meanwhile."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.waits += 1
        self.meanwhile()
