"""Where does a graph count its steps?

Rule: the ``global_step`` collection if the train ops write what it names, else the integer scalar
that they add a constant to, else the float scalar that they add one to (other float sums are no
steps). A variable that training doesn't move is no step.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.variable_pb2 import VariableDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.constants import constant_whole_number
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import dtype_name
from orchestrator.graph.graphdef.view import parse_tensor
from orchestrator.graph.worker_graph import StepCounter

ADDITIONS = frozenset({"AssignAdd", "AssignAddVariableOp"})
INTEGERS, FLOATS = ("int32", "int64"), ("float32", "float64")
USUAL_NAMES = ("global_step", "iterations", "step")


def find_step(graph: Graph, targets: Iterable[str]) -> StepCounter | None:
    """The step's variable, None where the targets move none."""
    closure = graph.view.ancestors(targets)
    additions: dict[str, list[int | None]] = {}
    for name in sorted(closure):
        if graph.view.op(name) in ADDITIONS and len(graph.view.data[name]) > 1:
            variable = graph.variable_of(name)
            if variable is not None and _counts(graph, variable):
                additions.setdefault(variable, []).append(
                    constant_whole_number(graph.view, graph.view.data[name][1])
                )
    declared = [name for name in _declared(graph) if name in additions]
    constant = [name for name, amounts in additions.items() if None not in amounts]
    whole = [name for name in constant if _dtype(graph, name) in INTEGERS]
    ones = [name for name in constant if name not in whole and set(additions[name]) == {1}]
    chosen = next(iter(declared), None) or _usual(whole) or _usual(ones)
    if chosen is None:
        return None
    amounts = set(additions[chosen])
    return StepCounter(chosen, amounts.pop() if len(amounts) == 1 else None)


def _usual(names: list[str]) -> str | None:
    for word in USUAL_NAMES:
        for name in names:
            if name.rpartition("/")[2].lower() == word:
                return name
    return names[0] if len(names) == 1 else None


def _counts(graph: Graph, variable: str) -> bool:
    shape = attribute(graph.view.nodes[variable], "shape").shape
    return (
        _dtype(graph, variable) in (*INTEGERS, *FLOATS) and not shape.unknown_rank and not shape.dim
    )


def _dtype(graph: Graph, variable: str) -> str:
    return dtype_name(attribute(graph.view.nodes[variable], "dtype").type)


def _declared(graph: Graph) -> list[str]:
    if "global_step" not in graph.meta.collection_def:
        return []
    collection = graph.meta.collection_def["global_step"]
    names = [parse_tensor(name).node for name in collection.node_list.value]
    for value in collection.bytes_list.value:
        try:
            names.append(parse_tensor(VariableDef.FromString(value).variable_name).node)
        except DecodeError:
            continue
    return [
        variable
        for name in names
        if name in graph.view and (variable := graph.variable_of(name)) is not None
    ]
