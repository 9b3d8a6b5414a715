"""Where does a step touch a variable by row, and what needs it whole?

Rule: the variable's handle and its values are followed through whatever hands them on or computes
each element by itself. Lookups and updates by row end the way; variables that are computed row by
row from it (an optimizer's slots, averages of the table) are followed too, as one family. Whatever
else takes a value needs the variable whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tensorboard.compat.proto.types_pb2 import DT_RESOURCE

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.constants import constant_integer
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.op_traits import READS_A_RESOURCE, input_index
from orchestrator.graph.graphdef.tensors import shape_of
from orchestrator.graph.graphdef.view import Edge, Use
from orchestrator.graph.tables.elementwise import ELEMENTWISE, SAME_SHAPE, has_no_rows
from orchestrator.graph.tables.wholes import REDUCTIONS, NeededWhole, why_whole
from orchestrator.graph.worker_graph import Shape

LOOKUPS = frozenset(
    {"Gather", "GatherV2", "GatherNd", "ResourceGather", "ResourceGatherNd"}
    | {
        f"SparseSegment{what}{form}"
        for what in ("Sum", "Mean", "SqrtN")
        for form in ("", "WithNumSegments")
    }
)
"""Their first input has the rows, their second says which of them; ``embedding_lookup_sparse`` of
today adds up what it looks up at once.
"""
_LOOKS = READS_A_RESOURCE | {
    "IsVariableInitialized",
    "VarIsInitializedOp",
    "Shape",
    "ShapeN",
    "VariableShape",
    "Size",
    "Rank",
}
"""They ask about a variable and take no value of it."""
_VALUE_OF = {"Assign": 1, "AssignAdd": 1, "AssignSub": 1}
_VALUE_OF |= {f"{name}VariableOp": 1 for name in _VALUE_OF}


@dataclass(frozen=True)
class RowUse:
    """One node that reads or writes a variable by row.

    Attributes:
        indices: which rows; None where the node computes every row from the same row of its family.
    """

    node: str
    variable: str
    indices: Edge | None


class _Carrier(NamedTuple):
    """A tensor that stands for the rows of a variable: its handle, or a value for each."""

    edge: Edge
    handle: bool


@dataclass
class Family:
    """A variable with all that is computed row by row from it.

    Attributes:
        members: the variable first.
        looks: nodes that ask about a member and take no value of it, and what each asks.
        wholes: what needs a member whole, in the order in which it was found.
    """

    members: list[str]
    reads: list[RowUse] = field(default_factory=list)
    writes: list[RowUse] = field(default_factory=list)
    wholes: list[NeededWhole] = field(default_factory=list)
    looks: list[tuple[str, Edge]] = field(default_factory=list)


def family_of(graph: Graph, variable: str, within: set[str], slots: Iterable[str] = ()) -> Family:
    """Everything among ``within`` that touches ``variable`` or what belongs to it.

    Args:
        slots: those that are known to belong to it.
        within: what a step runs; savers and initialisers aren't among it.
    """
    walk = _Walk(graph, variable, within)
    for slot in slots:
        walk.join(slot)
    return walk.run()


class _Walk:
    """The way of one family through the graph."""

    def __init__(self, graph: Graph, variable: str, within: set[str]) -> None:
        self._graph, self._within = graph, within
        self._shape = variable_shape(graph, variable)
        self._found = Family([])
        self._values: set[Edge] = set()
        self._waiting: list[tuple[str, _Carrier]] = []
        self._assigned: list[tuple[RowUse, Edge]] = []
        self._beside: list[tuple[str, Use, Edge]] = []
        self._seen: set[_Carrier] = set()
        self.join(variable)

    def run(self) -> Family:
        """Follow every member to the end of its way."""
        while self._waiting:
            owner, carrier = self._waiting.pop(0)
            for use in self._graph.view.uses[carrier.edge.node]:
                if use.port == carrier.edge.port and use.node in self._within:
                    self._step(owner, carrier, use)
            if not self._waiting:
                self._join_sources()
        self._settle()
        return self._found

    def _join_sources(self) -> None:
        """Variables of the same shape that an assigned value is computed from."""
        seen: set[Edge] = set()
        above = [value for _, value in self._assigned if value not in self._values]
        while above:
            edge = above.pop()
            variable = self._graph.variable_of(edge.node)
            if variable is not None:
                self.join(variable)
            elif edge not in seen and self._graph.view.op(edge.node) in ELEMENTWISE:
                seen.add(edge)
                above.extend(self._graph.view.data[edge.node])

    def _settle(self) -> None:
        """What could be judged only once all rows of the family were known."""
        for owner, use, edge in self._beside:
            if edge not in self._values:
                why = f"computes with {edge.tensor}, which may hold other numbers for each row"
                self._whole(owner, use, why)
        for written, value in self._assigned:
            if value in self._values:
                self._found.writes.append(written)
            else:
                use = Use(written.node, 0, 0)
                self._whole(written.variable, use, f"assigns it {value.tensor} as a whole")

    def join(self, variable: str) -> None:
        """Let a variable be of the family."""
        known = variable in self._found.members or variable not in self._within
        if not known and variable_shape(self._graph, variable) == self._shape:
            self._found.members.append(variable)
            self._go_on(variable, Edge(variable, 0), handle=True)

    def _go_on(self, owner: str, edge: Edge, *, handle: bool) -> None:
        carrier = _Carrier(edge, handle)
        if carrier in self._seen:
            return
        self._seen.add(carrier)
        self._waiting.append((owner, carrier))
        resource = self._graph.dtype(edge) == "resource"
        if not resource:  # a reference is taken as a value too
            self._values.add(edge)

    def _whole(self, owner: str, use: Use, why: str = "") -> None:
        op = self._graph.view.op(use.node)
        said = why or why_whole(self._graph, use)
        self._found.wholes.append(NeededWhole(owner, use.node, op, said, use.slot))

    def _step(self, owner: str, carrier: _Carrier, use: Use) -> None:
        graph = self._graph
        op, name = graph.view.op(use.node), use.node
        if graph.definition(name) is None:
            self._whole(owner, use)
        elif op in _LOOKS:
            self._found.looks.append((name, carrier.edge))
        elif op in ALIASES and op not in ("IdentityN", "Switch", "RefSwitch") and use.slot == 0:
            self._go_on(owner, Edge(name, 0), handle=carrier.handle and op != "Identity")
        elif op in ("Switch", "RefSwitch") and use.slot == 0:
            for port in (0, 1):
                self._go_on(owner, Edge(name, port), handle=carrier.handle)
        elif op == "ReadVariableOp":
            self._go_on(owner, Edge(name, 0), handle=False)
        elif op in LOOKUPS:
            self._look_up(owner, use)
        elif graph.traits(name).writes:
            self._write(owner, carrier, use)
        elif op in ELEMENTWISE and self._graph.dtype(carrier.edge) != "resource":
            self._elementwise(owner, use)
        elif op in REDUCTIONS and use.slot == 0 and self._along_a_row(name):
            self._go_on(owner, Edge(name, 0), handle=False)
        else:
            self._whole(owner, use)

    def _along_a_row(self, name: str) -> bool:
        """Whether a reduction gives one number for each row, as for rows of length one."""
        axis = constant_integer(self._graph.view, self._graph.view.data[name][1])
        rank = len(self._shape or ())
        kept = attribute(self._graph.view.nodes[name], "keep_dims").b
        return bool(kept) and axis is not None and rank > 0 and axis % rank != 0

    def _look_up(self, owner: str, use: Use) -> None:
        """A lookup along the first axis."""
        graph, node = self._graph, self._graph.view.nodes[use.node]
        data = graph.view.data[use.node]
        by_row = use.slot == 0 and attribute(node, "batch_dims").i == 0
        if node.op == "GatherV2":
            by_row = by_row and constant_integer(graph.view, data[2]) == 0
        if by_row:
            self._found.reads.append(RowUse(use.node, owner, data[1]))
        else:
            self._whole(owner, use)

    def _elementwise(self, owner: str, use: Use) -> None:
        graph = self._graph
        rank = len(self._shape or ())
        predicate = graph.view.op(use.node) in ("Select", "SelectV2")
        for slot, edge in enumerate(graph.view.data[use.node]):
            if slot == use.slot or (predicate and slot == 0 and _is_scalar(graph, edge)):
                continue
            alike = graph.view.op(use.node) in SAME_SHAPE
            if not alike and has_no_rows(graph, edge, rank):
                continue
            self._beside.append((owner, use, edge))
            other = graph.variable_of(edge.node)
            if other is not None:
                self.join(other)
        self._go_on(owner, Edge(use.node, 0), handle=False)

    def _write(self, owner: str, carrier: _Carrier, use: Use) -> None:
        graph, name = self._graph, use.node
        traits, definition = graph.traits(name), graph.definition(name)
        assert definition is not None, "an operation that writes is a known one"
        data = graph.view.data[name]
        argument = definition.input_arg[use.slot] if use.slot < len(definition.input_arg) else None
        to_handle = argument is not None and (argument.is_ref or argument.type == DT_RESOURCE)
        op = graph.view.op(name)
        if to_handle and carrier.handle and (traits.sparse or traits.scatter):
            index = input_index(definition, "indices")
            edge = None if index is None else data[index]
            self._found.writes.append(RowUse(name, owner, edge))
            self._others(name)
            self._written(owner, name)
        elif op in _VALUE_OF and use.slot == 0 and carrier.handle:
            self._assigned.append((RowUse(name, owner, None), data[_VALUE_OF[op]]))
            self._written(owner, name)
        elif op in _VALUE_OF and use.slot == _VALUE_OF[op]:
            target = graph.variable_of(name)
            if target is not None:
                self.join(target)
            if target not in self._found.members:
                self._whole(owner, use)
        else:
            self._whole(owner, use)

    def _written(self, owner: str, name: str) -> None:
        """A reference is handed on by what has written it."""
        definition = self._graph.definition(name)
        if definition is not None and definition.output_arg:
            self._go_on(owner, Edge(name, 0), handle=True)

    def _others(self, name: str) -> None:
        """The slots that a sparse update writes beside its variable."""
        for variable in _handles(self._graph, name):
            self.join(variable)


def _handles(graph: Graph, name: str) -> list[str]:
    definition = graph.definition(name)
    found = []
    for argument, edge in zip(
        definition.input_arg if definition else (), graph.view.data[name], strict=False
    ):
        if argument.is_ref or argument.type == DT_RESOURCE:
            variable = graph.variable_of(edge.node)
            if variable is not None:
                found.append(variable)
    return found


def _is_scalar(graph: Graph, edge: Edge) -> bool:
    return has_no_rows(graph, edge, 1)


def variable_shape(graph: Graph, name: str) -> Shape:
    """The shape that a variable's node states."""
    return shape_of(attribute(graph.view.nodes[name], "shape").shape)
