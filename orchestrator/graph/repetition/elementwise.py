"""What do operations that work element by element make of rows?

Rule: what only passes its input on keeps it. A function that isn't linear is known of what doesn't
grow with the batch. What adds and multiplies has rules of its own (``arithmetic``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.graph.repetition.arithmetic import (
    Rule,
    aligned,
    combined,
    of_sizes,
    without_number,
)
from orchestrator.graph.repetition.nodes import Node
from orchestrator.graph.repetition.values import (
    Axes,
    Depends,
    Dims,
    Fixed,
    Linearity,
    Mixed,
    Rows,
    Unknown,
    Value,
    bent,
    depends,
    multiplied,
    undecided,
)

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


def kept(node: Node) -> Value:
    """A node's first input, unchanged."""
    value = node.given[0]
    if isinstance(value, Rows):
        return replace(value, axes=node.settled(value.axes))
    return value


def _bend(node: Node) -> Value:
    counts = of_sizes(node)
    if counts is not None:
        return counts
    if any(isinstance(value, Dims) for value in node.given):
        return without_number(node, None)
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
    # Bent values are all of degree 0
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
    # A yes or no about sizes, or about parts that grow differently, doesn't grow itself
    if stuck is not None:
        return stuck if isinstance(stuck, Unknown) else Fixed(0, Depends.COUNT)
    numbers = [value for value in node.given if isinstance(value, Fixed | Rows)]
    most = max(depends(value) for value in numbers)
    if axes != frozenset():
        return Rows(axes, 0, most < Depends.DATA)
    if most < Depends.DATA:
        return Fixed(0, most)
    return Fixed(0, most, Linearity.NONLINEAR, node.name)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(KEEPING, kept),
    **dict.fromkeys(BENDING, _bend),
    **dict.fromkeys(JUDGING, _judge),
}
