"""How long did each worker wait for its checkpoint?

Rule: told by the workers' own signs of life: from the first that says "staging" to the first that
says something else. What is fetched while TensorFlow is still being imported costs the run nothing
and isn't told.
"""

from __future__ import annotations

from orchestrator.decide.doing import Doing
from orchestrator.decide.events import Progress
from orchestrator.journal.worker_events import CheckpointStaged


class Stagings:
    """The waits that are under way."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def take(self, pulse: Progress, node: str, now_s: float) -> CheckpointStaged | None:
        """The journal's event where this pulse ends a wait."""
        if pulse.doing is Doing.STAGING:
            self._since.setdefault(pulse.worker, now_s)
            return None
        begun = self._since.pop(pulse.worker, None)
        if begun is None:
            return None
        return CheckpointStaged(worker=pulse.worker, node=node, seconds=round(now_s - begun, 3))
