"""How does a variable's initial value get more rows?

Rule: the value is followed back from the assignment: what computes each element by itself hands the
question on, random operations and fills get a longer shape, and a constant of one number a longer
one. What was computed for a fixed number of rows is refused, and so is a value that something else
takes too.
"""

from __future__ import annotations

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import constant_attributes
from orchestrator.graph.graphdef.tensors import shape_of
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.surgery.edits import RefusedEdit, UnderEdit
from orchestrator.graph.tables.elementwise import ELEMENTWISE, has_no_rows
from orchestrator.graph.tables.initial_values import DRAWS, integers, one_number
from orchestrator.graph.worker_graph import Variable

_HANDED_ON = frozenset({"Switch", "RefSwitch", "ReadVariableOp"})


class InitialRows:
    """The initial values of a table and its slots.

    Attributes:
        grown: the nodes that compute them.
    """

    def __init__(self, work: UnderEdit, asked: str, old: int, rows: int) -> None:
        self._work, self._asked, self._old, self._rows = work, asked, old, rows
        self._graph = work.graph
        self._variable = asked
        self._rank = 0
        self.grown: set[str] = set()

    def lengthen(self, variable: Variable) -> None:
        """Give the initial value of one of them more rows. Raises RefusedEdit."""
        if variable.initializer is None:
            raise RefusedEdit(
                f"--grow {self._asked}: the graph has no initialiser for {variable.name}, which new rows need",
                "",
                (variable.name,),
            )
        self._variable, self._rank = variable.name, len(variable.shape or ())
        self._value(self._graph.view.data[variable.initializer][1])

    def refuse_other_takers(self) -> None:
        """Raises RefusedEdit where something else takes a value that was given more rows."""
        graph = self._graph
        for name in sorted(self.grown):
            for use in graph.view.uses[name]:
                known = use.node in self.grown or graph.variable_of(use.node) in self._work.grown
                if not known and graph.view.op(use.node) not in ("Shape", "Size", "Rank"):
                    raise self._refused(use.node, "takes its initial value too")

    def _value(self, edge: Edge) -> None:
        graph, name = self._graph, edge.node
        op = graph.view.op(name)
        data = graph.view.data[name]
        if graph.variable_of(name) in self._work.grown or name in self.grown:
            return
        if op == "Const":
            self._constant(name)
        elif op in DRAWS:
            self._shape(name, data[0])
        elif op in ELEMENTWISE | _HANDED_ON:
            taken = data[:1] if op in _HANDED_ON else data
            for given in taken:
                if not has_no_rows(graph, given, self._rank):
                    self._value(given)
        else:
            raise self._refused(name, "computes its initial value for the rows that there are")
        self.grown.add(name)

    def _constant(self, name: str) -> None:
        """A constant of one number gets as many more of it."""
        tensor = attribute(self._graph.view.nodes[name], "value").tensor
        shape = shape_of(tensor.tensor_shape) or ()
        if not shape or shape[0] != self._old:
            raise self._refused(name, "is its initial value, of another shape")
        if one_number(tensor) is None:
            raise self._refused(name, "holds its initial value row by row")
        longer = self._work.editor.node(name).attr["value"].tensor
        longer.tensor_shape.dim[0].size = self._rows
        if longer.tensor_content:
            row_bytes = len(longer.tensor_content) // self._old
            longer.tensor_content = longer.tensor_content[:row_bytes] * self._rows

    def _shape(self, consumer: str, edge: Edge) -> None:
        """The shape that ``consumer`` takes, with more rows."""
        graph = self._graph
        node = graph.view.nodes[edge.node]
        sizes = integers(node) if node.op == "Const" else None
        if sizes is None or sizes.ndim != 1 or not sizes.size or sizes[0] != self._old:
            raise self._refused(edge.node, "computes the shape of its initial value")
        longer = sizes.copy()
        longer[0] = self._rows
        name = self._work.add("Const", edge.node, attributes=constant_attributes(longer)).node
        self._work.editor.node(name).device = node.device
        self._work.editor.set_input(consumer, 0, Edge(name, 0))

    def _refused(self, node: str, why: str) -> RefusedEdit:
        op = self._graph.view.op(node)
        whose = "" if self._variable == self._asked else f" of {self._variable}"
        return RefusedEdit(
            f"--grow {self._asked}: its number of rows{whose} is fixed: {node} ({op}) {why}",
            "Only tables whose initial values are drawn, or are one number, can grow",
            (node,),
        )
