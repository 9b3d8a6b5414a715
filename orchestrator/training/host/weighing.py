"""How does a slot's gradient count by what its batch counts?

Rule: each is multiplied by its batch's weight before the slots are added up, and the sum is divided
by the sum of the weights: the mean over whatever the weights count, in the same order of summation
as any other. A batch that counts nothing gives nothing, whatever its gradient is (0/0 in a masked
mean). Half types are multiplied and added in float32, as they are without weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from orchestrator.errors import UserCodeError

WIRE = {"float16": "float32", "bfloat16": "float32"}
"""Half types are added in float32 and rounded once, as TensorFlow's own reductions do: M of them
could overflow or vanish.
"""


def wired(array: np.ndarray) -> np.ndarray:
    """An array in the type in which it's added."""
    wide = WIRE.get(array.dtype.name)
    return array if wide is None else array.astype(wide)


def weight_of(value: Any, tensor: str) -> float:
    """The number that weights a batch.

    Raises:
        UserCodeError: it isn't one number, or none that a batch can count by.
    """
    array = np.asarray(value)
    weight = float(array.reshape(-1)[0]) if array.size == 1 else float("nan")
    if not np.isfinite(weight) or weight < 0:
        what = f"the shape {list(array.shape)}" if array.size != 1 else f"the value {weight}"
        raise UserCodeError(
            f"--weight-by {tensor} has {what} for a batch, where one number that isn't negative is needed",
            remedy="Name a scalar that counts, such as the sum of a mask or the number of tokens",
        )
    return weight


def weighed(array: np.ndarray, weight: float) -> np.ndarray:
    """A slot's gradient, or its rows, as often as its batch counts; in the type of the sum."""
    wide = wired(np.asarray(array))
    # A float, not a float64 of NumPy's, keeps the array's type
    return np.asarray(wide * weight) if weight else np.zeros_like(wide)


def divided(total: np.ndarray, weights: float) -> np.ndarray:
    """The mean that a weighted sum gives.

    Raises:
        UserCodeError: no batch of the step counts anything.
    """
    if weights <= 0:
        raise UserCodeError(
            "the weights of all batches of a step are 0, so there is no mean of them",
            remedy="Give batches in which something counts, or leave --weight-by out",
        )
    return np.asarray(total / weights)
