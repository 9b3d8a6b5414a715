"""Which variable's value is this, once that is initialised?

Rule: what TF1's ``initialized_value`` makes, and so what any initial value reads that follows from
another variable: a conditional that asks whether that one is set, and hands on its value if it is.
Both forms are known, switches that are merged and a node with two functions, also within each other.
What asks for anything else has no answer.
"""

from __future__ import annotations

from tensorboard.compat.proto.function_pb2 import FunctionDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.view import Edge

_HANDED_ON = (ALIASES - {"Switch", "RefSwitch", "IdentityN"}) | {"ReadVariableOp"}
_ASKS = ("IsVariableInitialized", "VarIsInitializedOp")


def value_once_set(graph: Graph, edge: Edge) -> str | None:
    """The variable of which this tensor is the value, where that has one; None where it can't be
    told.
    """
    edge = _origin(graph, edge)
    op = graph.view.op(edge.node)
    if edge.node not in graph.view.nodes:
        return None
    if graph.traits(edge.node).variable:
        return edge.node
    if op == "Merge" and edge.port == 0:
        found = [_of_switch(graph, branch) for branch in graph.view.data[edge.node]]
        return next((name for name in found if name is not None), None)
    return _of_function(graph, edge) if op in ("If", "StatelessIf") else None


def _origin(graph: Graph, edge: Edge) -> Edge:
    while graph.view.op(edge.node) in _HANDED_ON and graph.view.data.get(edge.node):
        edge = graph.view.data[edge.node][0]
    return edge


def _asked(graph: Graph, edge: Edge) -> str | None:
    """The variable of which a predicate asks whether it's set."""
    edge = _origin(graph, edge)
    if graph.view.op(edge.node) not in _ASKS:
        return None
    return graph.variable_of(graph.view.data[edge.node][0].node)


def _of_switch(graph: Graph, branch: Edge) -> str | None:
    """What the branch hands on that is taken where the variable is set."""
    edge = _origin(graph, branch)
    if graph.view.op(edge.node) not in ("Switch", "RefSwitch") or edge.port != 1:
        return None
    value, predicate = graph.view.data[edge.node]
    asked = _asked(graph, predicate)
    return asked if asked is not None and value_once_set(graph, value) == asked else None


def _of_function(graph: Graph, edge: Edge) -> str | None:
    predicate, *given = graph.view.data[edge.node]
    asked = _asked(graph, predicate)
    name = attribute(graph.view.nodes[edge.node], "then_branch").func.name
    function = graph.function(name)
    if asked is None or function is None:
        return None
    place = _argument(function, edge.port)
    if place is None or value_once_set(graph, given[place]) != asked:
        return None
    return asked


def _argument(function: FunctionDef, output: int) -> int | None:
    """Which of its arguments a function hands on as one of its results; None where it's none."""
    arguments = [argument.name for argument in function.signature.input_arg]
    body = {node.name: node for node in function.node_def}
    name = function.ret[function.signature.output_arg[output].name].split(":")[0]
    while name in body and body[name].op in _HANDED_ON and body[name].input:
        name = body[name].input[0].split(":")[0]
    return arguments.index(name) if name in arguments else None
