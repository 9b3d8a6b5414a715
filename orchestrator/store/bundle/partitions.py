"""Which parts of a tensor may be saved apart, and do they make the whole?

Rule: parts are blocks along each dimension; together they hold every element once. TensorFlow puts
parts together for some types only (``GetSliceValue`` in ``tensor_bundle.cc``): parts of any other
would be a checkpoint that nobody restores.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from math import prod

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.slice_keys import WHOLE_DIMENSION, Extents

# "as" exports it: whoever saves parts asks here for what parts there may be
from orchestrator.vocabulary import SLICEABLE as SLICEABLE


def whole_extents(extents: Extents, shape: tuple[int, ...]) -> Extents:
    """Extents with numbers for whole dimensions too.

    Raises:
        CorruptCheckpoint: they lie outside of ``shape``.
    """
    found = tuple(
        (0, size) if length == WHOLE_DIMENSION else (start, length)
        for (start, length), size in zip(extents, shape, strict=False)
    )
    if len(extents) not in (len(shape), 0) or any(
        start < 0 or length < 0 or start + length > size
        for (start, length), size in zip(found, shape, strict=False)
    ):
        raise CorruptCheckpoint(
            f"a part {list(extents)} lies outside of its tensor {list(shape)}",
            remedy="Use another checkpoint, or `tfresume salvage` for what can still be read of this one",
        )
    return found if extents else tuple((0, size) for size in shape)


def extent_shape(extents: Extents) -> tuple[int, ...]:
    """The shape of a part by itself."""
    return tuple(length for _, length in extents)


def partition_problem(parts: Sequence[Extents], shape: tuple[int, ...]) -> str:
    """Why parts aren't the whole tensor, each element once; empty where they are.

    Args:
        parts: with numbers for whole dimensions too.
    """
    for extents in parts:
        if len(extents) != len(shape) or any(
            start < 0 or length < 0 or start + length > size
            for (start, length), size in zip(extents, shape, strict=True)
        ):
            return f"part {list(extents)} lies outside of {list(shape)}"
    there, due = sum(prod(extent_shape(extents)) for extents in parts), prod(shape)
    if there < due:
        return f"parts hold {there} of {due} elements"
    # One without elements may lie within another, and its neighbours would never be compared
    ordered = sorted(extents for extents in parts if prod(extent_shape(extents)))
    # Rows of one tensor by many ranks: neighbours tell; a grid needs each pair
    by_rows = all(extents[1:] == ordered[0][1:] for extents in ordered)
    pairs = pairwise(ordered) if by_rows else combinations(ordered, 2)
    for one, other in pairs:
        if _overlap(one, other):
            return f"parts {list(one)} and {list(other)} hold the same elements"
    return ""


def _overlap(one: Extents, other: Extents) -> bool:
    return all(
        max(start, begin) < min(start + length, begin + size)
        for (start, length), (begin, size) in zip(one, other, strict=True)
    )
