"""Which numbers of a graph count rows, and which tensors have rows because their shape says so?

Rule: sizes are followed through the graph's own arithmetic of shapes, each part by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.graph.repetition.arithmetic import Rule
from orchestrator.graph.repetition.nodes import Node, rows_of
from orchestrator.graph.repetition.values import (
    COUNT,
    Depends,
    Dims,
    Fixed,
    Mixed,
    Part,
    Rows,
    Unknown,
    Value,
)

DRAWING = frozenset(
    {
        "RandomUniform",
        "RandomStandardNormal",
        "TruncatedNormal",
        "RandomUniformInt",
        "StatelessRandomUniform",
        "StatelessRandomNormal",
        "StatelessTruncatedNormal",
        "StatelessRandomUniformInt",
    }
)
"""Random operations that take the shape of what they draw as their first input."""


def _shape(node: Node) -> Value | tuple[Value, ...]:
    found: list[Value] = []
    for slot, value in enumerate(node.given):
        shape = node.shape_in(slot)
        axes = value.axes if isinstance(value, Rows) else frozenset()
        # What is mixed has no rows, so its shape stays
        if isinstance(value, Unknown | Mixed):
            found.append(value if isinstance(value, Unknown) else Fixed())
        # Up to the batch's axis the vector is right, and whoever asks for more of it is told so
        elif axes is not None and len(axes) == 1 and shape is None:
            (axis,) = axes
            found.append(Dims((*(None,) * axis, "rows")))
        elif axes is None or len(axes) > 1 or shape is None:
            found.append(node.unknown("it isn't known which axis is the batch's"))
        else:
            found.append(
                Dims(tuple("rows" if axis in axes else size for axis, size in enumerate(shape)))
            )
    return found[0] if len(found) == 1 else tuple(found)


def _size(node: Node) -> Value:
    value = node.given[0]
    if isinstance(value, Rows):
        # Of rows that were picked by their data even the number is data: a mean over them is masked
        return Fixed(1, Depends.DATA, why=value.picked) if value.picked else COUNT
    return value if isinstance(value, Unknown) else Fixed()


def one_size(part: Part) -> Value:
    """One of a vector's sizes."""
    return COUNT if part == "rows" else Fixed()


def part_of_sizes(
    node: Node,
    value: Dims,
    begin: tuple[int, ...] | None,
    end: tuple[int, ...] | None,
    strides: tuple[int, ...] | None,
    masks: Mapping[str, int],
) -> Value:
    """A slice of a vector of sizes; the masks are those of StridedSlice."""
    if (
        begin is None
        or end is None
        or strides is None
        or len(begin) != 1
        or masks["ellipsis"]
        or masks["new_axis"]
    ):
        return node.unknown("it takes sizes that aren't known from a shape")
    if masks["shrink_axis"]:
        inside = -len(value.parts) <= begin[0] < len(value.parts)
        return (
            one_size(value.parts[begin[0]])
            if inside
            else node.unknown("it takes a size that isn't known from a shape")
        )
    first = None if masks["begin"] else begin[0]
    last = None if masks["end"] else end[0]
    return Dims(value.parts[slice(first, last, strides[0] or 1)])


def sizes_gathered(node: Node) -> Value | None:
    """A gather out of a vector of sizes; None for any other."""
    value = node.given[0]
    if not isinstance(value, Dims):
        return None
    wanted, shape = node.integers(1), node.shape()
    if wanted is None or any(not -len(value.parts) <= at < len(value.parts) for at in wanted):
        return node.unknown("it takes sizes that aren't known from a shape")
    return (
        one_size(value.parts[wanted[0]])
        if shape == ()
        else Dims(tuple(value.parts[at] for at in wanted))
    )


def _fill(node: Node) -> Value:
    """Fill, Tile, BroadcastTo: a shape of which one size counts rows makes rows."""
    at = 0 if node.op == "Fill" else 1
    value, sizes = node.given[1 - at], node.sizes(at)
    if isinstance(value, Rows) and sizes is not None:
        if node.op == "Tile":
            return (
                rows_of(node, value, value.axes)
                if "rows" not in sizes
                else node.unknown("every row meets every other")
            )
        return rows_of(
            node, value, frozenset({sizes.index("rows")}) if sizes.count("rows") == 1 else None
        )
    made = _made(node, sizes, node.given[at])
    if not isinstance(made, Rows) or not isinstance(value, Fixed):
        return value if not isinstance(made, Unknown) else made
    blank = value.depends < Depends.DATA
    return replace(
        made,
        degree=value.degree,
        blank=blank,
        form=value.form,
        why=value.why,
        dial=value.dial,
        zero=_zero(node),
    )


def _draw(node: Node) -> Value:
    """Random numbers: of each row its own."""
    made = _made(node, node.sizes(0), node.given[0])
    # Not blank: what is added up of them isn't the number of rows
    return replace(made, blank=False) if isinstance(made, Rows) else made


def _made(node: Node, sizes: tuple[Part, ...] | None, given: Value) -> Value:
    """What is made of a shape that is given: blank rows where one of its sizes counts them."""
    if isinstance(given, Unknown):
        return given
    if sizes is None or sizes.count("rows") > 1:
        return node.unknown(
            "it makes a tensor of a shape that isn't known"
            if sizes is None
            else "every row meets every other"
        )
    return (
        Rows(node.settled(frozenset({sizes.index("rows")})), blank=True)
        if "rows" in sizes
        else Fixed()
    )


def _zero(node: Node) -> bool:
    number = node.numbers(1) if node.op == "Fill" else None
    return number is not None and not number.any()


def _like(node: Node) -> Value:
    value = node.given[0]
    zero = node.op == "ZerosLike"
    if isinstance(value, Rows):
        return Rows(value.axes, 0, True, zero=zero)
    if isinstance(value, Dims | Unknown):
        return node.unknown() if isinstance(value, Dims) else value
    return Fixed(zero=zero)


def _range(node: Node) -> Value:
    if any(isinstance(value, Fixed) and value.degree == 1 for value in node.given):
        return Rows(node.settled(frozenset({0})), 0, True)
    return next((value for value in node.given if isinstance(value, Unknown)), Fixed())


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Shape", "ShapeN"), _shape),
    "Size": _size,
    "Rank": lambda node: Fixed(),
    **dict.fromkeys(("Fill", "Tile", "BroadcastTo"), _fill),
    **dict.fromkeys(DRAWING, _draw),
    **dict.fromkeys(("ZerosLike", "OnesLike"), _like),
    "Range": _range,
}
