"""How are the initial values of some rows of a table computed, without the others?

Rule: the value is followed back from the assignment, as for a table that grows: what computes each
element by itself hands the question on; the shape of what is drawn or filled, a constant of one
number, and another variable's rows are fed for as many rows as are wanted. Whatever else computes a
value for all rows at once is named.
"""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import shape_of
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.tables.elementwise import ELEMENTWISE, has_no_rows
from orchestrator.graph.tables.initial_values import DRAWN_IN_TURN, integers, one_number
from orchestrator.graph.tables.once_set import value_once_set
from orchestrator.graph.tables.wholes import NeededWhole
from orchestrator.graph.worker_graph import Variable
from orchestrator.graph.worker_tables import FirstRows

_ELEMENTWISE = ELEMENTWISE - {"Merge"}
"""Which branch of a conditional is taken may depend on what is initialised already; only one that
asks for just that is known.
"""


class _Needs(Exception):
    def __init__(self, node: str, why: str) -> None:
        super().__init__(node)
        self.node, self.why = node, why


def first_rows(
    graph: Graph, variable: Variable, rows: int, members: Collection[str]
) -> FirstRows | NeededWhole:
    """How rows of a member of a table begin, or what computes them only all at once.

    Args:
        rows: how many the variable has.
        members: the table's variable and its slots.
    """
    name = variable.initializer
    if name is None or len(graph.view.data[name]) < 2:
        why = "has no initialiser of its own"
        return NeededWhole(variable.name, variable.name, graph.view.op(variable.name), why)
    walk = _Walk(graph, variable, rows, members)
    value = graph.view.data[name][1]
    try:
        walk.follow(value)
    except _Needs as needs:
        op = graph.view.op(needs.node)
        return NeededWhole(variable.name, needs.node, op, needs.why)
    if walk.draws and walk.reads:
        why = "draws for the rows of another variable"
        return NeededWhole(variable.name, value.node, graph.view.op(value.node), why)
    return FirstRows(
        value.tensor,
        tuple(walk.shapes.items()),
        tuple((tensor, *filled) for tensor, filled in walk.numbers.items()),
        tuple(walk.reads.items()),
        walk.draws,
    )


class _Walk:
    def __init__(
        self, graph: Graph, variable: Variable, rows: int, members: Collection[str]
    ) -> None:
        self._graph, self._members = graph, members
        self._own, self._rows = variable.name, rows
        self._rank = len(variable.shape or ())
        self._seen: set[Edge] = set()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.numbers: dict[str, tuple[tuple[int, ...], float]] = {}
        self.reads: dict[str, str] = {}
        self.draws = False

    def follow(self, edge: Edge) -> None:
        """Raises _Needs."""
        if edge in self._seen:
            return
        self._seen.add(edge)
        graph, name = self._graph, edge.node
        op, data = graph.view.op(name), graph.view.data[name]
        read = value_once_set(graph, edge)  # another variable of the table is set by then
        if read is not None and read in self._members and read != self._own:
            self.reads[edge.tensor] = read
            return
        if op == "Const":
            self._constant(edge)
        elif op in DRAWN_IN_TURN or op == "Fill":
            self.draws |= op != "Fill"
            self._shape(data[0])
        elif op in _ELEMENTWISE:
            for given in data:
                if not has_no_rows(graph, given, self._rank):
                    self.follow(given)
        else:
            raise _Needs(name, "computes the initial values of all rows at once")

    def _constant(self, edge: Edge) -> None:
        tensor = attribute(self._graph.view.nodes[edge.node], "value").tensor
        shape = tuple(size or 0 for size in shape_of(tensor.tensor_shape) or ())
        number = one_number(tensor)
        if not shape or shape[0] != self._rows or number is None:
            raise _Needs(edge.node, "holds the initial values row by row")
        self.numbers[edge.tensor] = (shape[1:], number)

    def _shape(self, edge: Edge) -> None:
        node = self._graph.view.nodes[edge.node]
        sizes = integers(node) if node.op == "Const" else None
        if sizes is None or sizes.ndim != 1 or not sizes.size or sizes[0] != self._rows:
            raise _Needs(edge.node, "computes the shape of the initial values")
        self.shapes[edge.tensor] = tuple(sizes[1:].tolist())
