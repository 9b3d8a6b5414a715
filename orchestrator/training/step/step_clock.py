"""On what does a step spend its time?

Rule: seconds by part, added up over the process's life; whoever wants a step's share takes the
difference of two readings. Written by the thread that steps, read by any.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Self

PARTS = ("compute", "exchange", "apply")


class StepClock:
    """Measures what stands in ``with clock.of(part)``; parts don't nest."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._part, self._began_s = PARTS[0], 0.0

    @property
    def seconds(self) -> Mapping[str, float]:
        """By part."""
        return dict(self._seconds)

    def of(self, part: str) -> Self:
        """Names the part that is entered next."""
        self._part = part
        return self

    def __enter__(self) -> None:
        self._began_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._part] += time.perf_counter() - self._began_s
