"""How often is a run's progress written down?

Rule: densely at first, when the curves are steep and a short run is all that there is, then at
longer and longer intervals; never so seldom that ``status`` tells what is long past.
"""

from __future__ import annotations

FIRST_S, LONGEST_S = 0.25, 5.0
"""As often as the rules look at the clock; and as old as ``status`` may be. A day makes 17,000
lines of the latter, which are read in a moment.
"""
GROWTH = 60.0
"""The interval is this part of the time since the first progress: five minutes after it the longest
is reached, with some 250 lines written.
"""


def every_s(trained_s: float) -> float:
    """The interval, so many seconds after the first sign of progress."""
    return min(LONGEST_S, max(FIRST_S, trained_s / GROWTH))


class JournalPace:
    """When the next progress is due, by one driver's clock."""

    def __init__(self) -> None:
        self._first_s: float | None = None
        self._last_s = float("-inf")

    def is_due(self, now_s: float) -> bool:
        """Whether progress that is known now is to be written down."""
        if self._first_s is None:
            self._first_s = now_s
        return now_s - self._last_s >= every_s(now_s - self._first_s)

    def written(self, now_s: float) -> None:
        """It was."""
        self._last_s = now_s

    def hurry(self) -> None:
        """The next sign of progress is due at once."""
        self._last_s = float("-inf")
