"""What is each node of a graph: a variable, a writer of state, an optimizer's update, a source of
randomness or of batches?

Rule: OpDefs decide (``op_traits``), once per operation type; a node that calls a function of the
library writes what its body writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from tensorboard.compat.proto.function_pb2 import FunctionDef
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.op_def_pb2 import OpDef

from orchestrator.graph.graphdef import op_traits
from orchestrator.graph.graphdef.function_writes import FunctionWrites
from orchestrator.graph.graphdef.gradient_scopes import GradientScopes
from orchestrator.graph.graphdef.library import functions_called_by
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.tensors import output_dtypes
from orchestrator.graph.graphdef.view import Edge, GraphView

Source = Literal["queue", "iterator", "reader", ""]

ALIASES = frozenset(
    {"Identity", "RefIdentity", "Enter", "RefEnter", "Switch", "RefSwitch", "IdentityN"}
)
"""Operations that hand a variable's reference or handle on by their first input."""

STEP_RESOURCES = ("Stack", "TensorArray", "TemporaryVariable", "DestroyTemporaryVariable")
"""Stateful operations on things that live within one step: the same on every run, no source of
differences.
"""


@dataclass(frozen=True)
class OpTraits:
    """What operations of one type do."""

    writes: bool = False
    references: bool = False
    random: bool = False
    variable: bool = False
    update: bool = False
    sparse: bool = False
    scatter: bool = False
    gradient: int | None = None
    source: Source = ""
    stateful: bool = False


NO_TRAITS = OpTraits()


def _traits_of(definition: OpDef | None) -> OpTraits:
    if definition is None:
        return NO_TRAITS
    source: Source = ""
    if op_traits.takes_from_queue(definition):
        source = "queue"
    elif op_traits.takes_from_iterator(definition):
        source = "iterator"
    elif op_traits.takes_from_reader(definition):
        source = "reader"
    return OpTraits(
        writes=op_traits.writes_state(definition),
        references=op_traits.has_reference_input(definition),
        random=op_traits.is_random(definition),
        variable=op_traits.is_variable(definition),
        update=op_traits.is_optimizer_update(definition),
        sparse=op_traits.is_sparse_update(definition),
        scatter=op_traits.is_scatter(definition),
        gradient=op_traits.gradient_input(definition),
        source=source,
        stateful=bool(definition.is_stateful),
    )


class Graph:
    """A MetaGraphDef with its index and the traits of its nodes; a snapshot, as the view is."""

    def __init__(self, meta: MetaGraphDef, ops: OpSet) -> None:
        self.meta = meta
        self.ops = ops
        self.view = GraphView(meta.graph_def)
        self._by_type: dict[str, OpTraits] = {}
        self._scopes: GradientScopes | None = None
        self._traits = {name: self._type_traits(op) for name, op in self.view.ops.items()}
        self._library = {
            function.signature.name: function for function in meta.graph_def.library.function
        }
        self._bodies = FunctionWrites(
            self._library, lambda op_type: self._type_traits(op_type).writes
        )
        self._writing = self._functions_that(lambda traits: traits.writes)
        self._updating = self._functions_that(lambda traits: traits.update or traits.scatter)

    def definition(self, name: str) -> OpDef | None:
        """The OpDef of a node's type."""
        return self.ops.get(self.view.op(name))

    def function(self, name: str) -> FunctionDef | None:
        """A function of the graph's library."""
        return self._library.get(name)

    def traits(self, name: str) -> OpTraits:
        """What a node's type does."""
        return self._traits.get(name, NO_TRAITS)

    def _type_traits(self, op_type: str) -> OpTraits:
        found = self._by_type.get(op_type)
        if found is None:
            found = self._by_type[op_type] = _traits_of(self.ops.get(op_type))
        return found

    def random_type(self, op_type: str) -> bool:
        """Whether operations of this type draw from a hidden state."""
        return self._type_traits(op_type).random

    def writes(self, name: str) -> bool:
        """Whether running the node changes a variable, table or accumulator."""
        return self.traits(name).writes or (
            bool(self._writing) and self._calls(name, self._writing)
        )

    def updates_inside(self, name: str) -> bool:
        """Whether the node calls a function whose body updates variables as an optimizer does."""
        return self._calls(name, self._updating)

    def _calls(self, name: str, functions: frozenset[str]) -> bool:
        return bool(functions) and any(
            called in functions
            for called in functions_called_by(self.view.nodes[name], self._library)
        )

    def written_by(self, name: str) -> tuple[str, ...]:
        """The variables that a writer writes; for a function's call those that its body writes, or
        all that it's given where that can't be told.
        """
        if self.traits(name).writes:
            variable = self.variable_of(name)
            return () if variable is None else (variable,)
        inputs = self._bodies.inputs_written(self.view.nodes[name])
        given = (
            self.variable_of(edge.node)
            for at, edge in enumerate(self.view.data[name])
            if self.dtype(edge) == "resource" and (inputs is None or at in inputs)
        )
        return tuple(dict.fromkeys(variable for variable in given if variable is not None))

    def writers(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that write, in the graph's order of ``names``."""
        return [name for name in names if self.writes(name)]

    def variable_of(self, name: str) -> str | None:
        """The variable that a writer writes or an alias stands for; None where it can't be told."""
        edge = Edge(name, 0)
        for _ in range(1000):
            if self.traits(edge.node).variable:
                return edge.node
            op = self.view.op(edge.node)
            if not self.view.data.get(edge.node) or not (
                op in ALIASES
                or op == "ReadVariableOp"
                or self.traits(edge.node).writes
                or edge.node == name
            ):
                return None
            edge = self.view.data[edge.node][0]
        return None

    def dtype(self, edge: Edge) -> str:
        """The NumPy name of a tensor's type, ``""`` where it can't be told."""
        node = self.view.nodes.get(edge.node)
        if node is None:
            return ""
        types = output_dtypes(node, self.ops.get(node.op))
        return types[edge.port] if edge.port < len(types) else ""

    def gradient_scope(self, name: str) -> str | None:
        """The outermost scope of ``tf.gradients`` that a node stands in, None outside of all."""
        if self._scopes is None:
            self._scopes = GradientScopes(self.view.nodes, self.view.nodes)
        return self._scopes.of(name)

    def variables(self) -> list[str]:
        """All variable nodes, in the graph's order."""
        return [name for name in self.view.nodes if self.traits(name).variable]

    def draws_from_outside(self, name: str) -> bool:
        """Whether a node's value may differ between ranks by itself: random, read from outside, or
        run by foreign code.
        """
        traits = self.traits(name)
        if traits.random or traits.source:
            return True
        if not traits.stateful or traits.variable or traits.writes:
            return False
        op = self.view.op(name)
        return (
            not self.view.data[name]
            and not op.startswith(STEP_RESOURCES)
            and not _is_handle(self.definition(name))
        )

    def _functions_that(self, do: Callable[[OpTraits], bool]) -> frozenset[str]:
        """Functions of the library of which an operation, in their own body or in one that they
        call, does so.
        """
        writing: set[str] = set()
        callers: dict[str, list[str]] = {}
        for name, function in self._library.items():
            for node in function.node_def:
                if do(self._type_traits(node.op)):
                    writing.add(name)
                for called in functions_called_by(node, self._library):
                    callers.setdefault(called, []).append(name)
        waiting = list(writing)
        while waiting:
            for caller in callers.get(waiting.pop(), ()):
                if caller not in writing:
                    writing.add(caller)
                    waiting.append(caller)
        return frozenset(writing)


def _is_handle(definition: OpDef | None) -> bool:
    """Whether all that an operation gives is a handle: a table, a queue, an iterator."""
    from tensorboard.compat.proto.types_pb2 import DT_RESOURCE, DT_VARIANT

    if definition is None:
        return False
    return all(
        argument.is_ref or argument.type in (DT_RESOURCE, DT_VARIANT)
        for argument in definition.output_arg
    )
