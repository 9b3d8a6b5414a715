"""How long did each worker wait for its checkpoint?

Rule: told by the workers' own signs of life: from the first that says "staging" to the first that
says something else. What is fetched while TensorFlow is still being imported costs the run nothing
and isn't told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.decide.events import Doing, Progress


class Stagings:
    """The waits that are under way."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def take(self, pulse: Progress, node: str, now_s: float) -> Mapping[str, Any] | None:
        """The journal's event where this pulse ends a wait: worker, node and ``seconds``."""
        if pulse.doing is Doing.STAGING:
            self._since.setdefault(pulse.worker, now_s)
            return None
        begun = self._since.pop(pulse.worker, None)
        if begun is None:
            return None
        return {
            "event": "staging",
            "worker": pulse.worker,
            "node": node,
            "seconds": round(now_s - begun, 3),
        }
