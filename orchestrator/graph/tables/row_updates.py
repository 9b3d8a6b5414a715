"""How does an update by row come to write alone what this worker holds?

Rule: what a worker holds is one range of rows, behind the last of which comes the first: its own
block and with copies those behind it. Of the indices those that fall into the range are kept, less
its first row, and of the rows those that belong to them, in their order. A read of rows between
gradients and update takes the nearest row of the range for one that isn't in it, since what follows
is written to that row alone, and so not here. Who asks a table for its shape is told that of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import (
    Editor,
    constant_attributes,
    integer_attribute,
    shape_attribute,
    type_attribute,
)
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.op_traits import input_index
from orchestrator.graph.graphdef.tensors import dtype_name
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.tables.elementwise import shape_before
from orchestrator.graph.tables.find import TablePart
from orchestrator.graph.tables.obstacles import asks_for_shape, rows_input
from orchestrator.graph.tables.rows import LOOKUPS, RowUse, variable_shape

_WIDE = "int64"


class UpdateWriter:
    """The updates of one part, as they're changed in the editor's graph.

    Args:
        graph: before any change.
        number: of the part.
        rows: how many the part has.
        row_shape: of the table.

    Attributes:
        first, count: placeholders, int64 scalars, that say which range it is.
        written: once it's written: what writes rows, and the tensor of those that are held.
    """

    def __init__(
        self, editor: Editor, graph: Graph, number: int, rows: int, row_shape: Sequence[int]
    ) -> None:
        self._editor, self._graph, self._row_shape = editor, graph, row_shape
        self._rows = rows
        self._scope = f"tables/{number}"
        self._names = 0
        self._kept: dict[Edge, tuple[Edge, Edge]] = {}
        self._constants: dict[tuple[int, ...], Edge] = {}
        self.first = self._placeholder("first")
        self.count = self._placeholder("count")
        self.written: list[tuple[RowUse, Edge]] = []

    def write(self, part: TablePart) -> None:
        """Change all that updates the part or asks about it."""
        # One that writes a table and its slots is found once for each
        for use in {use.node: use for use in part.updates if use.indices is not None}.values():
            if self._graph.view.op(use.node) in LOOKUPS:
                indices = self._graph.view.data[use.node][1]
                self._editor.set_input(use.node, 1, self._nearest(indices))
            else:
                self._keep_held(use)
        self.written = [
            (use, self._kept[use.indices][1])
            for use in part.updates
            if use.indices is not None and self._graph.view.op(use.node) not in LOOKUPS
        ]
        for name, edge in part.looks:
            if asks_for_shape(self._graph, name):
                self._answer(name, edge)

    # -- what falls into the range

    def _keep_held(self, use: RowUse) -> None:
        data = self._graph.view.data[use.node]
        definition, at = self._graph.definition(use.node), rows_input(self._graph, use)
        assert definition is not None
        assert at is not None
        slot = input_index(definition, "indices")
        assert slot is not None
        where, kept = self._kept_of(data[slot])
        self._editor.set_input(use.node, slot, kept)
        rows = data[at]
        if shape_before(self._graph, rows) == ():  # one number for all rows
            return
        dtype = self._graph.dtype(rows)
        flat = self._reshaped(rows, dtype, (-1, *self._row_shape))
        self._editor.set_input(use.node, at, self._picked(flat, where, dtype))

    def _kept_of(self, indices: Edge) -> tuple[Edge, Edge]:
        """Which of the indices fall into the range, and their rows in it."""
        if indices not in self._kept:
            dtype = self._graph.dtype(indices)
            row = self._cast(self._reshaped(indices, dtype, (-1,)), dtype, _WIDE)
            local = self._local(row)
            # What is no row of the table is in nobody's range, or it would come round to a row
            inside = self._all(
                self._add("GreaterEqual", [row, self._number(0)], _T(_WIDE)),
                self._add("Less", [row, self._number(self._rows)], _T(_WIDE)),
                self._add("Less", [local, self.count], _T(_WIDE)),
            )
            places = self._add("Where", [inside], _T("bool"))
            where = self._reshaped(places, _WIDE, (-1,))
            kept = self._picked(local, where, _WIDE)
            self._kept[indices] = (where, self._cast(kept, _WIDE, dtype))
        return self._kept[indices]

    def _nearest(self, indices: Edge) -> Edge:
        """The rows in the range, in the shape of the indices."""
        dtype = self._graph.dtype(indices)
        last = self._add("Sub", [self.count, self._number(1)], _T(_WIDE))
        local = self._local(self._cast(indices, dtype, _WIDE))
        below = self._add("Minimum", [local, last], _T(_WIDE))
        within = self._add("Maximum", [below, self._number(0)], _T(_WIDE))
        return self._cast(within, _WIDE, dtype)

    def _local(self, row: Edge) -> Edge:
        """How far behind the range's first row each one stands."""
        behind = self._add("Sub", [row, self.first], _T(_WIDE))
        before = self._add("Less", [behind, self._number(0)], _T(_WIDE))
        round_ = self._add(
            "Mul", [self._cast(before, "bool", _WIDE), self._number(self._rows)], _T(_WIDE)
        )
        return self._add("AddV2", [behind, round_], _T(_WIDE))

    def _all(self, first: Edge, *others: Edge) -> Edge:
        for other in others:
            first = self._add("LogicalAnd", [first, other])
        return first

    # -- what the whole is like

    def _answer(self, name: str, edge: Edge) -> None:
        node, view = self._graph.view.nodes[name], self._graph.view
        variable = self._graph.variable_of(edge.node)
        shape = variable_shape(self._graph, variable or "")
        number = attribute(node, "out_type").type
        dtype = np.dtype(dtype_name(number) if number else "int32")
        whole = np.array([size or 0 for size in shape or ()], dtype)
        answer = np.array(np.prod(whole, dtype=dtype)) if view.op(name) == "Size" else whole
        self._editor.change_op(name, "Const", (), view.controls[name], constant_attributes(answer))

    # -- nodes

    def _add(
        self, op: str, inputs: Sequence[Edge], attributes: dict[str, AttrValue] | None = None
    ) -> Edge:
        self._names += 1
        name = f"{self._scope}/{op}_{self._names}"
        return Edge(self._editor.add(op, name, inputs, attributes=attributes), 0)

    def _placeholder(self, name: str) -> Edge:
        attributes = {"dtype": type_attribute(_WIDE), "shape": shape_attribute(())}
        full = f"{self._scope}/{name}"
        return Edge(self._editor.add("Placeholder", full, attributes=attributes), 0)

    def _number(self, *numbers: int) -> Edge:
        """A scalar."""
        return self._constant(np.array(numbers[0], np.int64), numbers)

    def _constant(self, value: np.ndarray, key: tuple[int, ...]) -> Edge:
        if key not in self._constants:
            self._constants[key] = self._add("Const", [], constant_attributes(value))
        return self._constants[key]

    def _reshaped(self, edge: Edge, dtype: str, shape: tuple[int, ...]) -> Edge:
        wanted = self._constant(np.array(shape, np.int64), (len(shape), *shape, -1))
        attributes = {"T": type_attribute(dtype), "Tshape": type_attribute(_WIDE)}
        return self._add("Reshape", [edge, wanted], attributes)

    def _picked(self, rows: Edge, where: Edge, dtype: str) -> Edge:
        attributes = {
            "Tparams": type_attribute(dtype),
            "Tindices": type_attribute(_WIDE),
            "Taxis": type_attribute(_WIDE),
            "batch_dims": integer_attribute(0),
        }
        return self._add("GatherV2", [rows, where, self._number(0)], attributes)

    def _cast(self, edge: Edge, old: str, new: str) -> Edge:
        if old == new:
            return edge
        attributes = {"SrcT": type_attribute(old), "DstT": type_attribute(new)}
        return self._add("Cast", [edge], attributes)


def _T(dtype: str) -> dict[str, AttrValue]:
    return {"T": type_attribute(dtype)}
