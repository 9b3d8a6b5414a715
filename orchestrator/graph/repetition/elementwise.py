"""What do operations that work element by element make of rows?

Rule: shapes are aligned at their last axis, as broadcasting does it. Rows that meet rows must meet
them at the same axis; else every row meets every other, and what comes of that isn't told here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce

import numpy as np

from orchestrator.graph.repetition.nodes import Node, moved, rank_of
from orchestrator.graph.repetition.values import (
    Axes,
    Depends,
    Dims,
    Fixed,
    Linearity,
    Mixed,
    Number,
    Rows,
    Unknown,
    Value,
    added,
    bent,
    depends,
    divided,
    multiplied,
    undecided,
)

Rule = Callable[[Node], Value | tuple[Value, ...]]
Combine = Callable[[str, Number, Number, Axes], Value]
GUARD = 1e-3
"""A constant up to this size is added to a divisor to keep it from being zero."""

KEEPING = frozenset(
    {
        "Identity",
        "StopGradient",
        "PreventGradient",
        "Snapshot",
        "CheckNumerics",
        "Neg",
        "Cast",
        "Enter",
        "RefEnter",
        "Exit",
        "RefExit",
        "NextIteration",
        "RefNextIteration",
        "LoopCond",
        "Switch",
        "RefSwitch",
        "Print",
        "PrintV2",
        "Real",
        "RefIdentity",
        "Conj",
    }
)
"""Operations of which each output is as their first input."""

BENDING = frozenset(
    {
        "Relu",
        "Relu6",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Softplus",
        "Softsign",
        "Sigmoid",
        "Tanh",
        "Exp",
        "Expm1",
        "Log",
        "Log1p",
        "Erf",
        "Erfc",
        "Lgamma",
        "Digamma",
        "Sin",
        "Cos",
        "Tan",
        "Asin",
        "Acos",
        "Atan",
        "Sinh",
        "Cosh",
        "Asinh",
        "Acosh",
        "Atanh",
        "Floor",
        "Ceil",
        "Round",
        "Rint",
        "Sign",
        "LogicalNot",
        "IsNan",
        "IsInf",
        "IsFinite",
        "Softmax",
        "LogSoftmax",
        "Abs",
        "ClipByValue",
        "Reciprocal",
        "Inv",
        "Rsqrt",
        "Sqrt",
        "ComplexAbs",
        "BesselI0e",
        "BesselI1e",
        "Invert",
        "Bitcast",
        "ReluGrad",
        "Relu6Grad",
        "TanhGrad",
        "SigmoidGrad",
        "SqrtGrad",
        "RsqrtGrad",
        "EluGrad",
        "SoftplusGrad",
        "LeakyReluGrad",
        "Pow",
        "SquaredDifference",
        "Atan2",
        "FloorMod",
        "Mod",
        "FloorDiv",
        "TruncateDiv",
        "TruncateMod",
        "Xdivy",
        "Xlogy",
        "Igamma",
        "Zeta",
        "Minimum",
        "Maximum",
    }
)
"""Functions of their inputs, element by element or along the last axis, that aren't linear in them.
"""

JUDGING = frozenset(
    {
        "Equal",
        "NotEqual",
        "Less",
        "LessEqual",
        "Greater",
        "GreaterEqual",
        "LogicalAnd",
        "LogicalOr",
        "ApproximateEqual",
    }
)
"""Comparisons: no gradient passes, and what is decided by a reduced value isn't linear in its rows."""


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
        elif found is None or axes is None:
            found = axes if found is None else found
        elif not found & axes:
            return node.unknown("every row meets every other")
        else:
            found &= axes
    return node.settled(found) if found != frozenset() else found


def _pairwise(combine: Combine) -> Callable[[Node], Value]:
    def rule(node: Node) -> Value:
        counts = _arithmetic(node)
        stuck = undecided(node.given) if counts is None else None
        if counts is not None or stuck is not None:
            return (
                _of_mixed(node, combine)
                if isinstance(stuck, Mixed)
                else counts or _stuck(node, stuck)
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


def _stuck(node: Node, value: Value | None) -> Value:
    """What becomes of a value that is no number; vectors of sizes are calculated with in ways that
    nobody follows.
    """
    return (
        node.unknown("it calculates with a vector of sizes")
        if isinstance(value, Dims) or value is None
        else value
    )


def _arithmetic(node: Node) -> Value | None:
    """Sizes with sizes, part by part, where the result still is one; None for anything else."""
    if not any(isinstance(value, Dims) for value in node.given) or len(node.given) != 2:
        return None
    one, other = node.sizes(0), node.sizes(1)
    if one is None or other is None or len(one) != len(other):
        return None
    if node.op in ("Maximum", "Mul") and "rows" in (*one, *other):
        return Dims(
            tuple("rows" if "rows" in pair else None for pair in zip(one, other, strict=True))
        )
    if node.op in ("FloorDiv", "TruncateDiv") and "rows" not in other:
        return Dims(tuple("rows" if part == "rows" else None for part in one))
    return None


def kept(node: Node) -> Value:
    """A node's first input, unchanged."""
    value = node.given[0]
    if isinstance(value, Rows):
        return replace(value, axes=node.settled(value.axes))
    return value


def _bend(node: Node) -> Value:
    counts = _arithmetic(node)
    if counts is not None:
        return counts
    if any(isinstance(value, Dims) for value in node.given):
        return _stuck(node, None)
    guarded = _guarded(node)
    if guarded is not None:
        return guarded
    axes = aligned(node, tuple(range(len(node.given))))
    if isinstance(axes, Unknown):
        return axes
    found: list[Value] = []
    for value in node.given:
        if isinstance(value, Unknown | Mixed):
            return (
                value
                if isinstance(value, Unknown)
                else node.unknown("it bends parts that grow differently with the batch")
            )
        assert isinstance(value, Fixed | Rows)
        found.append(bent(node.name, value))
    return _any_of(node, found, axes)


def _guarded(node: Node) -> Value | None:
    """``maximum(count, 1)``: the count, since it's meant to be one; None for anything else."""
    if node.op != "Maximum":
        return None
    for slot in (0, 1):
        value = node.given[slot]
        if isinstance(value, Fixed) and value.degree and node.numbers(1 - slot) is not None:
            return value
    return None


def _any_of(node: Node, values: list[Value], axes: Axes) -> Value:
    """A function of several values of degree 0."""
    stuck = undecided(tuple(values))
    if stuck is not None:
        return stuck
    numbers = [value for value in values if isinstance(value, Fixed | Rows)]
    result: Value = numbers[0]
    for value in numbers[1:]:
        result = combined(node, multiplied, result, value, axes)
    return result


def _judge(node: Node) -> Value:
    axes = aligned(node, tuple(range(len(node.given))))
    if isinstance(axes, Unknown):
        return axes
    stuck = undecided(node.given)
    if stuck is not None:
        return stuck if isinstance(stuck, Unknown) else Fixed(0, Depends.COUNT)
    numbers = [value for value in node.given if isinstance(value, Fixed | Rows)]
    most = max(depends(value) for value in numbers)
    if axes != frozenset():
        return Rows(axes, 0, most < Depends.DATA)
    if most < Depends.DATA:
        return Fixed(0, most)
    return Fixed(0, most, Linearity.NONLINEAR, node.name)


def _square(node: Node) -> Value:
    value = node.given[0]
    if isinstance(value, Rows | Fixed):
        return multiplied(
            node.name, value, value, value.axes if isinstance(value, Rows) else frozenset()
        )
    return (
        value
        if isinstance(value, Unknown)
        else node.unknown("it squares parts that grow differently with the batch")
    )


def _difference(node: Node) -> Value:
    first = _summed(node)
    if isinstance(first, Rows | Fixed):
        return multiplied(
            node.name, first, first, first.axes if isinstance(first, Rows) else frozenset()
        )
    return (
        first
        if isinstance(first, Unknown)
        else node.unknown("it squares parts that grow differently with the batch")
    )


def _add(node: Node) -> Value:
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


def _divide(node: Node) -> Value:
    return _pairwise(divided)(node)


_summed = _pairwise(added)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(KEEPING, kept),
    **dict.fromkeys(BENDING, _bend),
    **dict.fromkeys(JUDGING, _judge),
    **dict.fromkeys(("Add", "AddV2", "AddN", "Sub", "BiasAdd"), _add),
    **dict.fromkeys(("Mul", "MulNoNan"), _pairwise(multiplied)),
    **dict.fromkeys(("RealDiv", "Div", "DivNoNan"), _divide),
    "Square": _square,
    "SquaredDifference": _difference,
}
