"""How long did each worker wait for its checkpoint?

Rule: told by the workers' own signs of life: from the first that says "staging" to the first that
says something else. What is fetched while TensorFlow is still being imported costs the run nothing
and isn't told.
"""

from __future__ import annotations

from orchestrator.decide.doing import Doing
from orchestrator.decide.events import Progress
from orchestrator.decide.roster import Roster
from orchestrator.journal.worker_events import CheckpointStaged


class Stagings:
    """The waits that are under way."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def take(self, pulse: Progress, workers: Roster, now_s: float) -> CheckpointStaged | None:
        """The journal's event where this pulse ends a wait.

        Args:
            workers: those that are there; who isn't waits for nothing any more.
        """
        if len(self._since) > len(workers):
            self._since = {who: at_s for who, at_s in self._since.items() if who in workers}
        worker = workers.get(pulse.worker)
        if worker is None:
            return None
        if pulse.doing is Doing.STAGING:
            self._since.setdefault(pulse.worker, now_s)
            return None
        begun = self._since.pop(pulse.worker, None)
        if begun is None:
            return None
        return CheckpointStaged(
            worker=pulse.worker, node=worker.node, seconds=round(now_s - begun, 3)
        )
