"""Where does the batch axis go when a tensor gets another shape?

Rule: a shape with one size that counts rows says where the batch is; so does a shape of constants
with one ``-1``, since nothing else in it can grow.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.graph.repetition.arithmetic import Rule
from orchestrator.graph.repetition.nodes import Node, rank_of, rows_of
from orchestrator.graph.repetition.sizes import one_size, part_of_sizes
from orchestrator.graph.repetition.values import (
    Dims,
    Fixed,
    Rows,
    Value,
)


def _slice(node: Node) -> Value:
    """StridedSlice: sizes, or a tensor of which the batch axis is taken whole."""
    value = node.given[0]
    begin, end, strides = (node.integers(slot) for slot in (1, 2, 3))
    masks = {
        name: node.attribute(f"{name}_mask").i
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    if isinstance(value, Dims):
        return part_of_sizes(node, value, begin, end, strides, masks)
    if not isinstance(value, Rows):
        return value
    if begin is None or value.axes is None or masks["ellipsis"]:
        return (
            rows_of(node, value, None)
            if _still_free(node)
            else node.unknown("it takes a part of the rows")
        )
    axes = frozenset(
        place for axis in value.axes if (place := _place_after(axis, len(begin), masks)) is not None
    )
    whole = all(_whole(axis, len(begin), begin, masks) for axis in value.axes)
    return (
        rows_of(node, value, axes)
        if whole and axes
        else node.unknown("it takes a part of the rows")
    )


def _still_free(node: Node) -> bool:
    """Whether as many axes of free size come out as go in: then the batch's is among them."""
    before, after = node.shape_in(0), node.shape()
    return None not in (before, after) and before.count(None) == after.count(None)  # type: ignore[union-attr]


def _whole(axis: int, given: int, begin: tuple[int, ...], masks: Mapping[str, int]) -> bool:
    """Whether a slice takes all of an axis."""
    place = _index_of(axis, given, masks)
    if place >= given:
        return True
    from_start = masks["begin"] >> place & 1 or begin[place] == 0
    return bool(from_start and masks["end"] >> place & 1 and not masks["shrink_axis"] >> place & 1)


def _index_of(axis: int, given: int, masks: Mapping[str, int]) -> int:
    """Which index of a slice speaks of an axis."""
    place = 0
    for index in range(given):
        if masks["new_axis"] >> index & 1:
            continue
        if place == axis:
            return index
        place += 1
    return given + axis - place


def _place_after(axis: int, given: int, masks: Mapping[str, int]) -> int | None:
    """Where an axis is after a slice."""
    index = _index_of(axis, given, masks)
    if index < given and masks["shrink_axis"] >> index & 1:
        return None
    before = range(min(index, given))
    gone = sum(masks["shrink_axis"] >> at & 1 and not masks["new_axis"] >> at & 1 for at in before)
    return axis - gone + sum(masks["new_axis"] >> at & 1 for at in before)


def _reshape(node: Node) -> Value:
    value = node.given[0]
    if isinstance(value, Dims):
        return one_size(value.parts[0]) if len(value.parts) == 1 and node.sizes(1) == () else value
    if not isinstance(value, Rows):
        return value
    sizes = node.sizes(1)
    if sizes is None:
        return rows_of(node, value, None)
    # Where one size counts rows, a -1 beside it is another axis
    for sought in ("rows", -1):
        if sizes.count(sought) == 1:
            return rows_of(node, value, frozenset({sizes.index(sought)}))
    # Where the batch's size is a constant itself no size tells it apart: rows in front stay there
    return rows_of(
        node, value, frozenset({0}) if node.static and value.axes == frozenset({0}) else None
    )


def _transpose(node: Node) -> Value:
    value, order = node.given[0], node.integers(1)
    if not isinstance(value, Rows):
        return value
    axes = value.axes
    if axes is None:
        return rows_of(node, value, None)
    # Without an order ``tf.transpose`` computes one from the rank, which is no constant in the
    # graph
    if order is None:
        rank = rank_of(node.shape_in(0))
        if node.given[1] != Fixed() or rank is None or rank != 2:
            return rows_of(node, value, None)
        order = (1, 0)  # transpose of a matrix without a given order
    return rows_of(
        node, value, frozenset(place for place, axis in enumerate(order) if axis in axes)
    )


def _expand(node: Node) -> Value:
    value, at = node.given[0], node.integers(1)
    # A count of rows on its way into a shape
    if isinstance(value, Fixed) and value.degree == 1 and node.whole_number():
        return Dims(("rows",))
    if not isinstance(value, Rows):
        return value
    rank = rank_of(node.shape_in(0))
    if value.axes is None or not at or (at[0] < 0 and rank is None):
        return rows_of(node, value, None)
    place = at[0] if at[0] >= 0 else at[0] + (rank or 0) + 1
    return rows_of(node, value, frozenset(axis + (axis >= place) for axis in value.axes))


def _squeeze(node: Node) -> Value:
    value = node.given[0]
    if isinstance(value, Dims):
        return one_size(value.parts[0]) if len(value.parts) == 1 else node.unknown()
    if not isinstance(value, Rows) or value.axes is None:
        return value
    gone = list(node.attribute("squeeze_dims").list.i)
    rank = rank_of(node.shape_in(0))
    if not gone:
        shape = node.shape_in(0)
        if shape is None:
            return rows_of(node, value, None)
        gone = [axis for axis, size in enumerate(shape) if size == 1]
    if any(axis < 0 for axis in gone):
        if rank is None:
            return rows_of(node, value, None)
        gone = [axis % rank for axis in gone]
    return rows_of(
        node,
        value,
        frozenset(
            axis - sum(other < axis for other in gone) for axis in value.axes if axis not in gone
        ),
    )


def _plain_slice(node: Node) -> Value:
    """Slice, with begin and size."""
    value, begin, size = node.given[0], node.integers(1), node.sizes(2)
    if (
        isinstance(value, Dims)
        and begin is not None
        and size is not None
        and isinstance(size[0], int)
    ):
        last = len(value.parts) if size[0] < 0 else begin[0] + size[0]
        return Dims(value.parts[begin[0] : last])
    if not isinstance(value, Rows):
        return (
            value
            if not isinstance(value, Dims)
            else node.unknown("it takes sizes that aren't known from a shape")
        )
    if value.axes is None or begin is None or size is None:
        return (
            rows_of(node, value, value.axes)
            if _still_free(node)
            else node.unknown("it takes a part of the rows")
        )
    whole = all(
        axis < len(begin) and begin[axis] == 0 and size[axis] in (-1, "rows") for axis in value.axes
    )
    return (
        rows_of(node, value, value.axes) if whole else node.unknown("it takes a part of the rows")
    )


RULES: Mapping[str, Rule] = {
    "StridedSlice": _slice,
    "Slice": _plain_slice,
    "Reshape": _reshape,
    **dict.fromkeys(("Transpose", "ConjugateTranspose"), _transpose),
    "ExpandDims": _expand,
    "Squeeze": _squeeze,
}
