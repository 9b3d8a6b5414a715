"""Which checkpoint does an evaluator keep as the best, and is it still there?

Rule: chosen anew whenever the results or the checkpoints have changed, by ``decide.evaluating``. As
a reader does, it's first written down and then looked at: what was being deleted at that moment is
no candidate any more, and the next best is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from orchestrator.decide import evaluating
from orchestrator.decide.evaluating import Goal
from orchestrator.store.checkpoints.retention import is_taken
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint
from orchestrator.store.run.evaluations import Best, Evaluation, Evaluations
from orchestrator.store.run.lease import Lease


class BestCheckpoint:
    """The best one of an evaluator.

    Args:
        own: the evaluator's directory.
        goal: what it's the best by; None: none is kept.
        lease: the right to write it down.
    """

    def __init__(self, own: Evaluations, goal: Goal | None, lease: Lease) -> None:
        self._own, self._goal, self._lease = own, goal, lease
        self._written = own.best() if goal is not None else None

    def chosen(
        self, results: Mapping[str, Evaluation], items: Mapping[str, Checkpoint]
    ) -> Best | None:
        """The best now, kept from here on; None where none has a finite number, or none is asked
        for.

        Args:
            results: by label.
            items: the checkpoints that exist by label, oldest first.

        Raises:
            LeaseLost, OutputError, StorageUnavailable: to be asked again.
        """
        there = dict(items)
        while (best := self._best(results, there)) is not None:
            if best == self._written:
                return best
            if is_taken(there[best.label]):
                self._lease.check()
                self._own.keep(best)
                if is_taken(there[best.label]):
                    self._written = best
                    return best
            del there[best.label]
        return None

    def _best(
        self, results: Mapping[str, Evaluation], items: Mapping[str, Checkpoint]
    ) -> Best | None:
        goal = self._goal
        if goal is None:
            return None
        values = {label: each.metrics.get(goal.metric, math.nan) for label, each in results.items()}
        found = evaluating.best(values, tuple(items), goal)
        if found is None:
            return None
        label, value = found
        step = results[label].step
        return Best(label=label, step=step, metric=goal.metric, better=goal.better, value=value)
