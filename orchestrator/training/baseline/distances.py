"""How far are two runs' values of a variable apart, and is that much?

Rule: a difference is measured by how far the steps moved the variable, since its size says nothing
of what was trained: a weight of 1e4 that moves by 1 and should have moved by 2 is wrong by a half,
not by 1e-4. What two runs may differ by because every step rounds to the variable's own type is no
difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

LEAST = float(np.finfo(np.float64).tiny)
"""What bytes that differ count for where their numbers don't (0.0 and -0.0, two kinds of NaN)."""


@dataclass(frozen=True)
class Distance:
    """How far two runs' values of one variable are apart.

    Attributes:
        largest: largest absolute difference.
        relative: the largest difference beyond rounding, over the largest movement of any element
            in either run; 1.0 for what can't be subtracted.
    """

    name: str
    largest: float
    relative: float


def distances(
    one: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    before: Mapping[str, np.ndarray],
    roundings: int,
) -> list[Distance]:
    """Per variable that both have, the farthest apart first.

    Args:
        one, other: variable to its value, any shape and dtype.
        before: their values before the steps; what isn't there has moved from zero.
        roundings: how many times each run rounded a variable; 0 where the same bytes are expected.
    """
    found = [
        _distance(name, one[name], other[name], before.get(name), roundings)
        for name in one
        if name in other
    ]
    return sorted(found, key=lambda item: (-item.relative, item.name))


def _distance(
    name: str, one: np.ndarray, other: np.ndarray, before: np.ndarray | None, roundings: int
) -> Distance:
    # Text, and what isn't of one shape and type, can't be subtracted
    if one.shape != other.shape or one.dtype != other.dtype or one.dtype.kind in "OSU":
        same = one.shape == other.shape and bool(np.all(one == other))
        return Distance(name, 0.0 if same else 1.0, 0.0 if same else 1.0)
    if one.tobytes() == other.tobytes():
        return Distance(name, 0.0, 0.0)
    first, second = _wide(one), _wide(other)
    apart = _apart(first, second)
    largest = float(np.max(apart))
    # Infinite or not a number in one run alone
    if not np.isfinite(largest):
        return Distance(name, 1.0, 1.0)
    start = np.zeros_like(first) if before is None or before.shape != one.shape else _wide(before)
    moved = max(_largest(first, start), _largest(second, start))
    beyond = float(np.max(np.maximum(apart - _rounded(one, first, second, moved, roundings), 0.0)))
    # Where the same bytes are expected, bytes that differ are a difference however small
    if roundings and beyond == 0:
        return Distance(name, largest, 0.0)
    return Distance(name, largest, max(beyond / moved if moved > 0 else 0.0, LEAST))


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    equal = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore"):  # of infinity and itself
        return np.where(equal, 0.0, np.abs(first - second))


def _largest(value: np.ndarray, start: np.ndarray) -> float:
    moved = _apart(value, start)
    return float(np.max(moved, where=np.isfinite(moved), initial=0.0))


def _rounded(
    like: np.ndarray, first: np.ndarray, second: np.ndarray, moved: float, roundings: int
) -> np.ndarray:
    """What so many roundings to the type of ``like`` may set each element of two runs apart: one
    unit in the last place each.

    Of its value, and of what moved it: a gradient of a half type was rounded to that type too.
    """
    if not roundings or like.dtype.kind not in "fcV":
        return np.zeros(like.shape)
    size: np.ndarray = np.maximum(np.abs(first), np.abs(second)) + moved
    return roundings * float(ml_dtypes.finfo(like.dtype).eps) * size  # type: ignore[no-untyped-call]
