"""How do the slots' own gradients make the one that all rows in one batch give?

Rule: the answer is looked for among weighted sums of the slots'. Each weight one: the loss sums
over rows. Each the slots' share: it's a mean. Weights that add up to one and differ by slot: a mean
over as many rows as each batch's data says. Anything else isn't made of the slots' gradients at
all. Plain NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

Pattern = Literal["mean", "sum", "counts", "none"]

FITS = 1e-3
"""How far a weighted sum may miss, relative to the largest element; as for the gradients."""
WORST_CONDITION = 1e6
"""Slots whose gradients are nearly multiples of each other tell no weights apart."""


def largest(array: np.ndarray) -> float:
    """The largest absolute element, 0 of an empty array; infinite where one isn't finite."""
    if array.size == 0:
        return 0.0
    top = float(np.max(np.abs(array)))
    return top if np.isfinite(top) else float("inf")


def wide(array: np.ndarray) -> np.ndarray:
    """The array in double precision."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def pattern_of(
    joint: np.ndarray, slots: Sequence[np.ndarray], known: np.ndarray | None = None
) -> tuple[Pattern, np.ndarray | None]:
    """Which weighted sum of the slots' gradients ``joint`` is.

    Args:
        joint: what all rows in one batch give, any shape.
        slots: what each slot gives, of the same shape.
        known: weights that explained another gradient, tried where this one is too small to tell.

    Returns:
        The pattern, and its weights (float64 ``[slots]``) where there are any.
    """
    whole = wide(joint).ravel()
    parts = np.stack([wide(each).ravel() for each in slots])
    count = len(slots)
    for name, weights in (("mean", np.full(count, 1 / count)), ("sum", np.ones(count))):
        if _fits(whole, parts, weights):
            return ("mean" if name == "mean" else "sum"), weights
    # Weights of the other gradients first: found by this one alone, they'd be drawn from rounding
    # where it is small
    found = known if known is not None and _fits(whole, parts, known) else _weights(whole, parts)
    if found is None or not _fits(whole, parts, found):
        return "none", None
    # A mean's weights are shares: none below zero, and one together
    is_mean = abs(float(np.sum(found)) - 1) < FITS and float(np.min(found)) > -FITS
    return ("counts", found) if is_mean else ("none", None)


def pooled(values: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Several gradients as one, each as large as the others.

    Args:
        values: for each gradient what all rows give, then what each slot gives.
    """
    sizes = [max(largest(each[0]), np.finfo(np.float64).tiny) for each in values]
    return [
        np.concatenate([wide(part).ravel() / size for part, size in zip(parts, sizes, strict=True)])
        for parts in zip(*values, strict=True)
    ]


def _fits(whole: np.ndarray, parts: np.ndarray, weights: np.ndarray) -> bool:
    missed = largest(whole - weights @ parts)
    return bool(np.isfinite(missed)) and missed <= FITS * largest(whole)


def _weights(whole: np.ndarray, parts: np.ndarray) -> np.ndarray | None:
    """Least squares; None where the elements can't tell."""
    if whole.size <= len(parts) or not np.all(np.isfinite(parts)):
        return None  # with as few elements as weights anything fits
    products = np.real(parts @ parts.conj().T)
    if np.linalg.cond(products) > WORST_CONDITION:
        return None
    found: np.ndarray = np.linalg.solve(products, np.real(parts.conj() @ whole))
    return found


def by_index(values: np.ndarray, indices: np.ndarray) -> dict[int, np.ndarray]:
    """The rows of IndexedSlices (values ``[rows, ...]``, indices ``[rows]``), those of one index
    added up.
    """
    unique, places = np.unique(indices, return_inverse=True)
    total = np.zeros((len(unique), *values.shape[1:]), wide(values[:0]).dtype)
    np.add.at(total, places, wide(values))
    return dict(zip(unique.tolist(), total, strict=True))


def aligned(rows: Sequence[Mapping[int, np.ndarray]]) -> list[np.ndarray]:
    """The same rows in the same order in each, zero where it has none; each ``[rows, ...]``."""
    order = sorted({index for each in rows for index in each})
    like = next((row for each in rows for row in each.values()), np.zeros(()))
    return [
        np.stack([each.get(index, np.zeros_like(like)) for index in order])
        if order
        else np.zeros((0, *like.shape))
        for each in rows
    ]
