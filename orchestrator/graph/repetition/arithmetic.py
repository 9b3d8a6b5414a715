"""What do sums, products and quotients, taken element by element, make of rows?

Rule: shapes are aligned at their last axis, as broadcasting does it. Rows that meet rows must meet
them at the same axis; else every row meets every other, and what comes of that isn't told here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import numpy as np

from orchestrator.graph.repetition.nodes import Node, moved, rank_of
from orchestrator.graph.repetition.values import (
    Axes,
    Depends,
    Dims,
    Fixed,
    Mixed,
    Number,
    Rows,
    Unknown,
    Value,
    added,
    divided,
    multiplied,
    undecided,
)

Rule = Callable[[Node], Value | tuple[Value, ...]]


Combine = Callable[[str, Number, Number, Axes], Value]


GUARD = 1e-3
"""A constant up to this size is added to a divisor to keep it from being zero. A larger one may be a
term of its own, beside which what grows with the rows is mixed.
"""


def aligned(node: Node, slots: tuple[int, ...]) -> Axes | Unknown:
    """The batch axis of what comes of several inputs by broadcasting; ``frozenset()`` where none
    has one.
    """
    ranks = [rank_of(node.shape_in(slot)) for slot in slots]
    widest = rank_of(node.shape()) if None in ranks else max(rank or 0 for rank in ranks)
    found: Axes = frozenset()
    for slot, rank in zip(slots, ranks, strict=True):
        value = node.given[slot]
        if not isinstance(value, Rows):
            continue
        axes = (
            moved(value.axes, widest - rank)
            if widest is not None and rank is not None
            else value.axes
        )
        if found == frozenset():
            found = axes
        # An axis that isn't known is the other's, as far as anybody can tell
        elif found is None or axes is None:
            found = axes if found is None else found
        elif not found & axes:
            return node.unknown("every row meets every other")
        else:
            found &= axes
    return node.settled(found) if found != frozenset() else found


def _pairwise(combine: Combine) -> Callable[[Node], Value]:
    def rule(node: Node) -> Value:
        # Sizes first: a sum or product of shapes is a shape, and no number that has a degree
        counts = of_sizes(node)
        stuck = undecided(node.given) if counts is None else None
        if counts is not None or stuck is not None:
            return (
                _of_mixed(node, combine)
                if isinstance(stuck, Mixed)
                else counts or without_number(node, stuck)
            )
        axes = aligned(node, tuple(range(len(node.given))))
        if isinstance(axes, Unknown):
            return axes
        return reduce(lambda one, other: combined(node, combine, one, other, axes), node.given)

    return rule


def combined(node: Node, combine: Combine, one: Value, other: Value, axes: Axes) -> Value:
    """Two values added, multiplied or divided; parts of different degrees stay that, what is
    unknown stays it.
    """
    stuck = undecided((one, other))
    if stuck is not None:
        return Mixed(node.name) if isinstance(stuck, Mixed) else stuck
    assert isinstance(one, Fixed | Rows)
    assert isinstance(other, Fixed | Rows)
    return combine(node.name, one, other, axes)


def _of_mixed(node: Node, combine: Combine) -> Value:
    """What was mixed stays it when something is added, or when it's multiplied by what follows from
    no data.
    """
    others = [value for value in node.given if not isinstance(value, Mixed)]
    if combine is added or all(
        isinstance(value, Fixed) and value.depends < Depends.DATA for value in others
    ):
        return next((value for value in others if isinstance(value, Unknown)), Mixed(node.name))
    return node.unknown("it multiplies parts that grow differently with the batch")


def without_number(node: Node, value: Value | None) -> Value:
    """What becomes of a value that is no number; vectors of sizes are calculated with in ways that
    nobody follows.
    """
    return (
        node.unknown("it calculates with a vector of sizes")
        if isinstance(value, Dims) or value is None
        else value
    )


def of_sizes(node: Node) -> Value | None:
    """Sizes with sizes, part by part, where the result still is one; None for anything else."""
    if not any(isinstance(value, Dims) for value in node.given) or len(node.given) != 2:
        return None
    one, other = node.sizes(0), node.sizes(1)
    if one is None or other is None or len(one) != len(other):
        return None
    # Several times the rows, or the rows but at least one, grow with the batch as the rows do
    if node.op in ("Maximum", "Mul") and "rows" in (*one, *other):
        return Dims(
            tuple("rows" if "rows" in pair else None for pair in zip(one, other, strict=True))
        )
    # So do the rows that are shared out in parts of a fixed size
    if node.op in ("FloorDiv", "TruncateDiv") and "rows" not in other:
        return Dims(tuple("rows" if part == "rows" else None for part in one))
    return None


def _square(node: Node) -> Value:
    return _squared(node, node.given[0])


def _difference(node: Node) -> Value:
    return _squared(node, _summed(node))


def _squared(node: Node, value: Value) -> Value:
    if isinstance(value, Rows | Fixed):
        return multiplied(
            node.name, value, value, value.axes if isinstance(value, Rows) else frozenset()
        )
    return (
        value
        if isinstance(value, Unknown)
        else node.unknown("it squares parts that grow differently with the batch")
    )


def _add(node: Node) -> Value:
    # ``count + 1e-8`` is meant to be the count. As a sum it would be mixed, and what is divided by
    # it unknown
    for slot in (0, 1):
        value, number = node.given[slot], node.numbers(1 - slot) if len(node.given) == 2 else None
        if (
            isinstance(value, Fixed)
            and value.degree
            and number is not None
            and bool(np.all(np.abs(number) <= GUARD))
        ):
            return value
    return _summed(node)


_summed = _pairwise(added)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Add", "AddV2", "AddN", "Sub", "BiasAdd"), _add),
    **dict.fromkeys(("Mul", "MulNoNan"), _pairwise(multiplied)),
    **dict.fromkeys(("RealDiv", "Div", "DivNoNan"), _pairwise(divided)),
    "Square": _square,
    "SquaredDifference": _difference,
}
