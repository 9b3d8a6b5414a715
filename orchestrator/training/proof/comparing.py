"""In which seams and variables do a group's step and one process's step differ?

Rule: a gradient is measured by its own largest element, a variable by how far the step moved it.
What changing the order of the rows changes is rounding, and so is what is tiny beside the largest
gradient of the step (a bias before a batch norm has a gradient of nothing but rounding).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from orchestrator.training.baseline.distances import distances
from orchestrator.training.proof.patterns import aligned, largest
from orchestrator.training.proof.stand import SeamSeen, Stand, Taken

TOLERANCE = 1e-3
"""As ``verify``'s, which says what it was measured on: graphs without a reason to differ stay below
2e-4, a lost or doubled slot of a hundred is 1e-2.
"""
FLOOR = 1e-6
"""Of the largest gradient of a step: some units in the last place of float32."""
ROUNDING_AT_MOST = 0.05
"""Of a gradient's largest element: what the order of the rows changes beyond that isn't rounding
but a graph that minds the order.
"""
ROUNDINGS = 4.0
"""Units in the last place that a gradient may be rounded by: of half types they are more than the
tolerance.
"""
LUCK = 4.0
"""How much larger than in one other order of the rows rounding may come out."""


@dataclass(frozen=True)
class Difference:
    """A seam whose value differs.

    Attributes:
        run: number of the run in the step's cycle.
        relative: the largest difference over the largest element.
    """

    run: int
    seam: SeamSeen
    relative: float


def different_seams(
    stand: Stand, group: Taken, joint: Taken, turned: Taken | None, factor: float = 1.0
) -> list[Difference]:
    """The seams at which two steps differ, in the order of the graph.

    Args:
        turned: the joint step with its rows in another order, where that was taken.
        factor: summed seams of ``joint`` count so many times.
    """
    return [
        Difference(run, seam, apart)
        for run, seam, (ours, theirs, noise) in _seams(stand, group, joint, turned, factor)
        if (apart := _apart(ours, theirs, noise, _floor(stand, joint, run, seam)))
        > max(TOLERANCE, ROUNDINGS * unit_of(seam.seam.dtype))
    ]


def unit_of(dtype: str) -> float:
    """One unit in the last place of a number near 1, of a type's name; 0 of what is exact."""
    kind = np.dtype(dtype)
    if kind.kind not in "fcV":
        return 0.0
    return float(ml_dtypes.finfo(kind).eps)  # type: ignore[no-untyped-call]


def _seams(
    stand: Stand, group: Taken, joint: Taken, turned: Taken | None, factor: float
) -> Iterator[tuple[int, SeamSeen, tuple[np.ndarray, np.ndarray, float]]]:
    for run, target in enumerate(stand.cycle):
        for seam in stand.seams[target]:
            key = (run, seam.tensor)
            taken = [group, joint, *([] if turned is None else [turned])]
            ours, theirs, *other = values_of([each.seams[key] for each in taken])
            theirs = theirs * (factor if seam.summed else 1.0)
            noise = largest(other[0] - theirs) if other and other[0].shape == theirs.shape else 0.0
            yield run, seam, (ours, theirs, noise)


def values_of(seen: Sequence[np.ndarray | dict[int, np.ndarray]]) -> list[np.ndarray]:
    """What stood at one seam in several steps, as arrays of one shape where they have one; rows are
    put in the same order.
    """
    rows = [each for each in seen if isinstance(each, dict)]
    return aligned(rows) if rows else [each for each in seen if isinstance(each, np.ndarray)]


def _apart(ours: np.ndarray, theirs: np.ndarray, noise: float, floor: float) -> float:
    """How far two values differ beyond rounding, relative to the larger one; infinite where they
    can't be compared.
    """
    if ours.shape != theirs.shape:
        return float("inf")
    # Both infinite, or neither a number, at the same places: their difference would be none either
    if np.array_equal(ours, theirs, equal_nan=True):
        return 0.0
    size = max(largest(ours), largest(theirs))
    difference = largest(ours - theirs)
    if not np.isfinite(difference):
        return float("inf")
    rounding = LUCK * noise if noise <= ROUNDING_AT_MOST * size else 0.0
    beyond = max(0.0, difference - rounding - floor)
    return beyond / size if size > 0 else 0.0


def _floor(stand: Stand, joint: Taken, run: int, seam: SeamSeen) -> float:
    # A statistic isn't beside the gradients: a variance of 1e-9 has to be right as it is
    if seam.role != "gradient":
        return 0.0
    sizes = [
        largest(value)
        for each in stand.seams[stand.cycle[run]]
        if each.role == "gradient"
        for value in values_of([joint.seams[run, each.tensor]])
    ]
    return FLOOR * max((size for size in sizes if np.isfinite(size)), default=0.0)


def different_variables(
    group: Taken, joint: Taken, start: Mapping[str, np.ndarray], noisy: Mapping[str, float]
) -> list[tuple[str, float]]:
    """(variable, how far apart relative to how far the step moved it), farthest first.

    Args:
        start: their values before the step.
        noisy: variable to how far rounding alone moves it, in the same measure.
    """
    return [
        (item.name, item.relative)
        for item in distances(group.variables, joint.variables, start, 1)
        if item.relative > TOLERANCE + LUCK * noisy.get(item.name, 0.0)
    ]


def noise_of(one: Taken, other: Taken, start: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How far two steps moved each variable apart."""
    found = distances(one.variables, other.variables, start, 1)
    return {item.name: item.relative for item in found}
