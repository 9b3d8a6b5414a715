"""A process that is paused right before its n-th write, while ``meanwhile`` happens, and then goes
on as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.fakes.dying import Death


class Pause(Death):
    """Counts writes; before number ``at`` (from 0) lets ``meanwhile`` run once. ``happened`` says
    whether it came to that.
    """

    def __init__(self, at: int, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self._pause_at, self._meanwhile = at, meanwhile

    def before_write(self) -> None:
        with self._lock:
            number, self.writes = self.writes, self.writes + 1
        if number == self._pause_at:
            self.happened = True
            self._meanwhile()
