"""Which numbers of a run's progress does a tracker draw, and how often?

Rule: the loss, the speed and the graph's own scalar summaries, each under one name in every
tracker; at most a point in EVERY_S, and the last one of the run always.
"""

from __future__ import annotations

import time

from orchestrator.driver.observer import RunProgress

EVERY_S = 1.0
"""Of a faster curve the eyes see no more, while MLflow keeps every point for ever and W&B asks for
no more.
"""


class Curves:
    """Remembers when the last point was drawn."""

    def __init__(self) -> None:
        self._drawn_s = float("-inf")

    def due(self, progress: RunProgress) -> dict[str, float]:
        """Curve to value, of those that have one; empty where it's too early for a point."""
        now_s = time.monotonic()
        if now_s - self._drawn_s < EVERY_S and progress.step < progress.until:
            return {}
        self._drawn_s = now_s
        values = {"loss": progress.loss, "steps_per_s": progress.steps_per_s or None}
        values |= {f"summary/{tag}": value for tag, value in progress.summaries.items()}
        return {name: value for name, value in values.items() if value is not None}
