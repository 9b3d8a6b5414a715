"""How fast does a generation step?

Rule: measured from the second step on, since the first one warms up, and what is long past is
slowly forgotten.
"""

from __future__ import annotations


class Pace:
    """Steps per second of one generation; 0 before its second step."""

    def __init__(self) -> None:
        self._count = 0
        self._first_s = 0.0
        self.steps_per_s = 0.0

    def stepped(self, now_s: float) -> bool:
        """Count a step; whether it's the generation's first."""
        self._count += 1
        if self._count == 1:
            self._first_s = now_s
        elif now_s > self._first_s:
            self.steps_per_s = (self._count - 1) / (now_s - self._first_s)
            if self._count > 64:  # forget slowly what is long past
                self._count, self._first_s = 33, now_s - 32 / self.steps_per_s
        return self._count == 1
