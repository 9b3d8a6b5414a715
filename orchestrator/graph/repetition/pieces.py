"""Where does the batch axis go when tensors are put together, or one is taken apart?

Rule: tensors that are put together have their rows at the same axis and grow alike with the batch;
what takes the batch axis itself apart isn't told here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.graph.repetition.arithmetic import Rule
from orchestrator.graph.repetition.nodes import Node, moved, rank_of, rows_of
from orchestrator.graph.repetition.values import (
    Axes,
    Depends,
    Dims,
    Fixed,
    Mixed,
    Part,
    Rows,
    Unknown,
    Value,
)


def _pack(node: Node) -> Value:
    axis = node.attribute("axis").i
    stuck = next((value for value in node.given if isinstance(value, Unknown)), None)
    if stuck is not None:
        return stuck
    if any(isinstance(value, Rows) for value in node.given):
        return _joined(node, axis, new=True)
    # A shape as people write it: ``[tf.shape(x)[0], 28 * 28]``
    if node.whole_number():
        parts = [_part(value, node, slot) for slot, value in enumerate(node.given)]
        return (
            Dims(tuple(parts))
            if "rows" in parts or all(isinstance(value, Fixed) for value in node.given)
            else node.unknown()
        )
    return _alike(node)


def _part(value: Value, node: Node, slot: int) -> Part:
    if isinstance(value, Fixed) and value.degree == 1:
        return "rows"
    known = node.integers(slot)
    return known[0] if known and len(known) == 1 else None


def _alike(node: Node) -> Value:
    """Reduced values side by side."""
    numbers = [value for value in node.given if isinstance(value, Fixed) and not value.zero]
    if len(numbers) + sum(isinstance(value, Fixed) and value.zero for value in node.given) < len(
        node.given
    ):
        return Mixed(node.name)
    if len({value.degree for value in numbers}) > 1:
        return Mixed(node.name)
    return max(numbers, key=lambda value: (value.depends, value.form), default=Fixed(zero=True))


def _concat(node: Node) -> Value:
    # The old Concat takes the axis before the values, ConcatV2 behind them
    last = node.op == "ConcatV2"
    at = node.integers(len(node.given) - 1 if last else 0)
    values = node.given[:-1] if last else node.given[1:]
    inner = replace(node, given=values)
    if any(isinstance(value, Dims) for value in values):
        parts: list[Part] = []
        for slot in range(len(values)):
            sizes = node.sizes(slot if last else slot + 1)
            if sizes is None:
                return node.unknown("it joins sizes that aren't known")
            parts.extend(sizes)
        return Dims(tuple(parts))
    if any(isinstance(value, Rows) for value in values):
        rank = rank_of(node.shape())
        axis = (
            None if at is None else at[0] if at[0] >= 0 else None if rank is None else at[0] % rank
        )
        return _joined(inner, axis, new=False)
    stuck = next((value for value in values if isinstance(value, Unknown)), None)
    return stuck or _alike(inner)


def _joined(node: Node, axis: int | None, *, new: bool) -> Value:
    """Tensors put together, some of them with rows."""
    rows = [value for value in node.given if isinstance(value, Rows)]
    others = [value for value in node.given if not isinstance(value, Rows)]
    stuck = next((value for value in others if not isinstance(value, Fixed)), None)
    if stuck is not None:
        return stuck if isinstance(stuck, Unknown) else node.unknown()
    degrees = {
        value.degree for value in node.given if isinstance(value, Rows | Fixed) and not value.zero
    }
    if len(degrees) > 1:
        return node.unknown("it joins parts that grow differently with the batch")
    # Along the batch axis, what has no rows adds rows that aren't repeated with the batch
    if (
        others
        and axis is not None
        and not new
        and any(value.axes == frozenset({axis}) for value in rows)
    ):
        return node.unknown("it joins rows with what has none")
    axes: Axes = rows[0].axes
    for value in rows[1:]:
        axes = value.axes if axes is None else axes if value.axes is None else axes & value.axes
    if axes is not None and not axes:
        return node.unknown("rows at different axes are joined")
    if new and axes is not None:
        rank = rank_of(node.shape())
        place = (
            axis if axis is not None and axis >= 0 else None if rank is None else (axis or 0) % rank
        )
        axes = None if place is None else frozenset(at + (at >= place) for at in axes)
    first = max(rows, key=lambda value: value.form)
    picked = next((value.picked for value in rows if value.picked), "")
    return rows_of(
        node,
        replace(first, blank=all(value.blank for value in rows), picked=picked, zero=False),
        axes,
    )


def _split(node: Node) -> Value:
    at = 1 if node.op == "Split" else 0
    value = node.given[at]
    return (
        replace(value, axes=node.settled(value.axes))
        if isinstance(value, Rows)
        else value
        if isinstance(value, Fixed | Unknown)
        else node.unknown()
    )


def _unpack(node: Node) -> Value | tuple[Value, ...]:
    value, at = node.given[0], node.attribute("axis").i
    if isinstance(value, Dims):
        return tuple(Fixed(1, Depends.COUNT) if part == "rows" else Fixed() for part in value.parts)
    if not isinstance(value, Rows):
        return value
    rank = rank_of(node.shape_in(0))
    if value.axes is None or (at < 0 and rank is None):
        return rows_of(node, value, None)
    place = at % rank if rank else at
    axes = frozenset(axis - (place < axis) for axis in value.axes if axis != place)
    return rows_of(node, value, axes) if axes else node.unknown("it takes the rows apart")


def _stored(node: Node) -> Value:
    """What a TensorArray holds, told by its flow as the tensor that its elements make, one behind
    the other along a new first axis.
    """
    given = list(node.given)
    if node.op == "TensorArrayWriteV3" and isinstance(given[2], Rows):
        given[2] = replace(given[2], axes=moved(given[2].axes, 1))
    held = [value for value in given if isinstance(value, Rows)]
    stuck = next((value for value in given if isinstance(value, Unknown)), None)
    if stuck is not None:
        return stuck
    if not held:
        return Fixed() if all(value == Fixed() for value in given) else node.unknown()
    if len({value.degree for value in held}) > 1:
        return node.unknown("it holds parts that grow differently with the batch")
    axes = next((value.axes for value in held if value.axes is not None), None)
    if node.op == "TensorArrayReadV3" and axes is not None:
        axes = frozenset(axis - 1 for axis in axes if axis)
        if not axes:
            return node.unknown("it takes the rows apart")
    return rows_of(node, held[0], None if node.op == "TensorArrayConcatV3" else axes)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Pack", "ParallelConcat"), _pack),
    **dict.fromkeys(("Concat", "ConcatV2"), _concat),
    **dict.fromkeys(("Split", "SplitV"), _split),
    "Unpack": _unpack,
    **dict.fromkeys(
        (
            "TensorArrayScatterV3",
            "TensorArrayReadV3",
            "TensorArrayWriteV3",
            "TensorArrayGatherV3",
            "TensorArrayConcatV3",
        ),
        _stored,
    ),
}
