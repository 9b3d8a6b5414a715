"""What do look-ups make of rows, and what places rows anew or picks some of them?

Rule: a look-up gives a row for each index; what places rows gives as many as its shape says, and
what picks some gives as many as the data says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.graph.repetition.arithmetic import Rule
from orchestrator.graph.repetition.nodes import Node, moved, rows_of
from orchestrator.graph.repetition.sizes import sizes_gathered
from orchestrator.graph.repetition.values import Dims, Fixed, Mixed, Rows, Unknown, Value

PICKING = frozenset({"Where", "DynamicPartition", "Unique", "UniqueV2", "SparseFillEmptyRows"})
"""How many rows these give follows from the data."""


def _gather(node: Node) -> Value:
    """A row for each index; out of rows too, where the indices have them."""
    sizes = sizes_gathered(node)
    if sizes is not None:
        return sizes
    table, indices = node.given[0], node.given[1]
    stuck = next((value for value in (table, indices) if isinstance(value, Unknown | Mixed)), None)
    if stuck is not None:
        return stuck if isinstance(stuck, Unknown) else node.unknown()
    at = (node.integers(2) or (0,))[0] if node.op == "GatherV2" else 0
    # Out of a table: its entries may grow (a sum per class), and each row gets one
    if isinstance(indices, Rows):
        degree = table.degree if isinstance(table, Rows | Fixed) else 0
        axes = (
            indices.axes
            if node.op == "GatherNd" or at == 0
            else moved(indices.axes, at)
            if at > 0
            else None
        )
        form, why = (
            (table.form, table.why) if isinstance(table, Rows) else (indices.form, indices.why)
        )
        return rows_of(node, Rows(axes, degree, False, indices.picked, form, why), axes)
    if not isinstance(table, Rows):
        return table if isinstance(table, Fixed) else node.unknown()
    # Fixed places: along another axis than the batch's all rows stay, along the batch's they don't
    if table.axes is None or at in table.axes or at < 0 or node.op == "GatherNd":
        return node.unknown("it takes a part of the rows")
    return rows_of(node, table, None)


def _picked(node: Node) -> Value:
    value = next((value for value in node.given if isinstance(value, Rows)), None)
    if value is None:
        return next((value for value in node.given if isinstance(value, Unknown)), node.unknown())
    return replace(
        value, axes=node.settled(frozenset({0})), picked=value.picked or node.name, blank=False
    )


def _scattered(node: Node) -> Value:
    """ScatterNd: as many rows as its shape says."""
    sizes = node.sizes(2)
    updates = node.given[1]
    if isinstance(updates, Rows) and sizes is not None and sizes.count("rows") == 1:
        return rows_of(node, updates, frozenset({sizes.index("rows")}))
    return updates if isinstance(updates, Unknown) else node.unknown()


def _stitched(node: Node) -> Value:
    # The first half of the inputs says where the second half's rows go
    rows = [value for value in node.given[len(node.given) // 2 :] if isinstance(value, Rows)]
    if not rows:
        return next((value for value in node.given if isinstance(value, Unknown)), node.unknown())
    if len({value.degree for value in rows}) > 1:
        return node.unknown("it joins parts that grow differently with the batch")
    # What DynamicPartition had picked apart is whole again: as many rows as the batch has
    return rows_of(node, replace(rows[0], picked=""), frozenset({0}))


def _parsed(node: Node) -> Value | tuple[Value, ...]:
    """ParseExample: dense tensors and the parts of sparse ones, all with a row for each example, in
    the order of ``core/ops/parsing_ops.cc``.
    """
    if not isinstance(node.given[0], Rows):
        return node.given[0]
    sparse = node.attribute("Nsparse").i
    rows = Rows(frozenset({0}))
    dense = node.attribute("Ndense").i
    return (*(rows,) * (2 * sparse), *(Dims(("rows", None)),) * sparse, *(rows,) * dense)


def _dense(node: Node) -> Value:
    """SparseToDense: as many rows as its shape says, whichever of them the data fills."""
    sizes = node.sizes(1)
    stuck = next((value for value in node.given if isinstance(value, Unknown)), None)
    if stuck is not None:
        return stuck
    if sizes is None or sizes.count("rows") != 1:
        return node.unknown("it makes a tensor of a shape that isn't known")
    values = next((value for value in node.given[2:] if isinstance(value, Rows)), Rows(None))
    return rows_of(node, replace(values, picked="", blank=False), frozenset({sizes.index("rows")}))


def _crossed(node: Node) -> Value | tuple[Value, ...]:
    """SparseCross, SparseReshape: the parts of a sparse tensor with a row for each example."""
    stuck = next((value for value in node.given if isinstance(value, Unknown)), None)
    if stuck is not None:
        return stuck
    rows = Rows(frozenset({0}))
    if node.op == "SparseReshape":
        sizes = node.sizes(2) or ()
        return (
            rows,
            Dims(tuple("rows" if size in ("rows", -1) else size for size in sizes))
            if sizes
            else node.unknown(),
        )
    return (rows, rows, Dims(("rows", None)))


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Gather", "GatherV2", "GatherNd", "ResourceGather"), _gather),
    **dict.fromkeys(PICKING, _picked),
    "ScatterNd": _scattered,
    **dict.fromkeys(("DynamicStitch", "ParallelDynamicStitch"), _stitched),
    "ParseExample": _parsed,
    "SparseToDense": _dense,
    **dict.fromkeys(
        ("SparseCross", "SparseCrossV2", "SparseCrossHashed", "SparseReshape"), _crossed
    ),
}
