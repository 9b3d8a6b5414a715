"""Which checkpoint does an evaluator take next, which is the best so far, and when is it over?

Rule: each committed checkpoint once, the oldest first, so that a curve grows to the right; what
retention deleted before its turn is passed over. The best is the best of those that still exist: a
checkpoint that the run went back behind counts no more. It's over when the run has ended and
nothing is left to evaluate, or when nobody has trained for long.

::

    look ──► TAKE a label ──► evaluated ──► look
      ├────► WAIT
      └────► OVER: the run has ended, or its driver is gone for patience_s
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import ConfigError


@dataclass(frozen=True)
class Goal:
    """What the best checkpoint is the best by."""

    metric: str
    better: Literal["max", "min"]

    @classmethod
    def parse(cls, text: str) -> Goal:
        """``METRIC:max`` or ``METRIC:min``; the metric is a fetched tensor. Raises ConfigError."""
        metric, _, better = text.rpartition(":")
        if not metric or better not in ("max", "min"):
            raise ConfigError(
                f"--keep-best {text!r} isn't of the form METRIC:max or METRIC:min",
                remedy="Write --keep-best accuracy:max, or --keep-best loss:min",
            )
        return cls(tensor_name(metric), "max" if better == "max" else "min")

    def is_better(self, one: float, other: float) -> bool:
        """Whether ``one`` beats ``other``; NaN beats nothing, and everything beats NaN."""
        if math.isnan(one) or math.isnan(other):
            return math.isnan(other) and not math.isnan(one)
        return one > other if self.better == "max" else one < other


def tensor_name(text: str) -> str:
    """``loss`` as the tensor ``loss:0``; with a port it's a tensor's name already."""
    return text if ":" in text else f"{text}:0"


@dataclass(frozen=True)
class Take:
    """Evaluate this checkpoint."""

    label: str


@dataclass(frozen=True)
class Wait:
    """Look again later."""


@dataclass(frozen=True)
class Over:
    """Nothing more will come. ``well``: the run has ended in order."""

    well: bool
    reason: str


@dataclass(frozen=True)
class Seen:
    """What a look at the run gave.

    Attributes:
        committed: labels of the lineage's committed checkpoints, oldest first.
        ended: the run's last driver has ended in order.
        silent_s: since a driver was last seen alive, by our own clock.
    """

    committed: Sequence[str]
    ended: bool
    silent_s: float


def after_look(seen: Seen, done: Collection[str], patience_s: float) -> Take | Wait | Over:
    """What to do next.

    Args:
        done: labels that were evaluated, by whichever life of this evaluator, or given up.
        patience_s: longest time without a living driver.
    """
    label = next((label for label in seen.committed if label not in done), None)
    if label is not None:
        return Take(label)
    if seen.ended:
        return Over(True, "the run has ended, and each of its checkpoints was evaluated")
    if seen.silent_s >= patience_s:
        return Over(False, f"nobody has trained for {seen.silent_s:.0f} s")
    return Wait()


def best(
    values: Mapping[str, float], committed: Sequence[str], goal: Goal
) -> tuple[str, float] | None:
    """Label and value of the best checkpoint, None where there is none that has a finite number.

    Args:
        values: label to its metric.
        committed: labels of those that exist, oldest first; of equals the newer counts.
    """
    found: tuple[str, float] | None = None
    for label in committed:
        value = values.get(label, math.nan)
        if math.isfinite(value) and (found is None or not goal.is_better(found[1], value)):
            found = (label, value)
    return found


def averages(outputs: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """The mean of each metric over batches, weighted by their rows; where a batch's rows aren't
    known, all count the same.

    Args:
        outputs: of each batch its rows (0: not known) and its metrics. The sum is exact, so that
            it doesn't depend on who computed which.
    """
    if not outputs:
        return {}
    known = all(rows > 0 for rows, _ in outputs)
    weights = [rows if known else 1 for rows, _ in outputs]
    total = sum(weights)
    return {
        name: _weighted([values[name] for _, values in outputs], weights) / total
        for name in outputs[0][1]
    }


def _weighted(values: Sequence[float], weights: Sequence[int]) -> float:
    if not all(map(math.isfinite, values)):
        return sum(value * weight for value, weight in zip(values, weights, strict=True))
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True))
