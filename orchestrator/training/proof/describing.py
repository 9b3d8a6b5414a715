"""What is told of a seam at which a group's step differs, and what excuses it?

Rule: plain data, for whoever judges it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.graph.batch_scale import NOT_ASKED
from orchestrator.training.proof.comparing import Difference, values_of
from orchestrator.training.proof.patterns import Pattern, largest
from orchestrator.training.proof.stand import Taken


def is_finite(taken: Taken) -> bool:
    """Whether all gradients and updates of a step are finite numbers."""
    arrays = (each for seen in taken.seams.values() for each in values_of([seen]))
    return all(np.isfinite(largest(each)) for each in arrays)


def first_and_rest(values: Sequence[np.ndarray]) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """What all rows give, and what each slot gives."""
    return values[0], values[1:]


def excused(item: Difference, pattern: Pattern, is_fit: bool, through: bool, trains: bool) -> bool:
    """A statistic itself is excused, unless it has a value for each row, or the slots' have to be
    added up, or it's none since it ``trains``; a gradient that goes through one, where nothing else is known against it.
    """
    if item.seam.role == "update":
        return is_fit and pattern != "sum" and not trains
    return through and item.seam.seam.scale.kind not in ("masked", "nonlinear", "mixed")


def described(
    item: Difference,
    pattern: Pattern,
    weights: np.ndarray | None,
    is_excused: bool,
    trains: bool = False,
) -> dict[str, Any]:
    """Plain data of a seam that differs."""
    seam = item.seam.seam
    scale = NOT_ASKED if item.seam.role == "update" and not trains else seam.scale
    return {
        "tensor": item.seam.tensor,
        "role": item.seam.role,
        "trains": trains,
        "summed": item.seam.summed,
        "kind": scale.kind,
        "variables": list(scale.variables),
        "relative": min(item.relative, 1e300),
        "pattern": pattern,
        "weights": None if weights is None else [float(weight) for weight in weights],
        "excused": is_excused,
    }
