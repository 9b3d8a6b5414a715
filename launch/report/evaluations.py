"""What did evaluators find, as the report shows it?

Rule: a row for each result, the newest checkpoint first; the best one of each evaluator is marked.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.store.objects.location import Location
from orchestrator.store.run.evaluations import Evaluations, evaluators


@dataclass(frozen=True)
class EvaluationRow:
    """One result.

    Attributes:
        metrics: tensor name and value of each.
        best: by which metric it's the evaluator's best; empty where it isn't.
        rows: that it was averaged over; 0 where they aren't known.
    """

    evaluator: str
    step: int
    checkpoint: str
    metrics: tuple[tuple[str, float], ...]
    best: str
    rows: int


def evaluation_rows(output: Location) -> tuple[EvaluationRow, ...]:
    """Every result below an output, newest first. Raises OutputError, StorageUnavailable."""
    rows = [row for each in evaluators(output) for row in _rows(each)]
    return tuple(sorted(rows, key=lambda row: (-row.step, row.evaluator)))


def _rows(each: Evaluations) -> list[EvaluationRow]:
    best = each.best()
    return [
        EvaluationRow(
            each.name,
            found.step,
            label,
            tuple(found.metrics.items()),
            best.metric if best is not None and best.label == label else "",
            found.rows,
        )
        for label, found in each.results().items()
    ]
