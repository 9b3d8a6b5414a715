"""What do nodes say of a variable's initial value?

Rule: read from the proto, as written; nothing is computed.
"""

from __future__ import annotations

from math import prod

import numpy as np
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.tensors import dtype_name, shape_of
from orchestrator.graph.graphdef.view import Edge

DRAWN_IN_TURN = frozenset(
    {"RandomUniform", "RandomStandardNormal", "TruncatedNormal", "ParameterizedTruncatedNormal"}
    | {"RandomUniformInt"}
)
"""Asked again they go on where they were."""
DRAWS = DRAWN_IN_TURN | frozenset(
    {"Fill", "StatelessRandomUniform", "StatelessRandomNormal"}
    | {"StatelessTruncatedNormal", "StatelessRandomUniformV2", "StatelessRandomNormalV2"}
    | {"StatelessTruncatedNormalV2"}
)
"""They take the shape of what they give as their first input."""


def one_number(tensor: TensorProto) -> float | None:
    """The number that all elements are; None where they differ, or are no numbers."""
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, dtype_name(tensor.dtype))
        return float(values[0]) if (values == values[0]).all() else None
    written = [
        value
        for kind in ("float", "double", "int", "int64", "bool")
        for value in getattr(tensor, f"{kind}_val")
    ]
    if len(tensor.half_val):  # as bits
        bits = np.array(tensor.half_val, np.uint16)
        written += bits.view(dtype_name(tensor.dtype)).astype(np.float64).tolist()
    if len(written) > 1 or len(tensor.string_val):
        return None
    return float(written[0]) if written else 0.0


def value_once_set(graph: Graph, merge: str) -> str | None:
    """The variable whose value a conditional gives once that is initialised, None where it's another
    conditional. That is what TF1's ``initialized_value`` makes, and so what any initial value
    reads that follows from another variable.
    """
    for branch in graph.view.data[merge]:
        variable, switch = graph.variable_of(branch.node), _switch_above(graph, branch)
        if variable is not None and switch is not None and switch.port == 1:
            question = _through_aliases(graph, graph.view.data[switch.node][1])
            asks = graph.view.op(question.node) in ("IsVariableInitialized", "VarIsInitializedOp")
            if asks and graph.variable_of(graph.view.data[question.node][0].node) == variable:
                return variable
    return None


def _switch_above(graph: Graph, edge: Edge) -> Edge | None:
    """Which output of which switch a branch takes."""
    while graph.view.data.get(edge.node):
        op = graph.view.op(edge.node)
        if op in ("Switch", "RefSwitch"):
            return edge
        if op not in ALIASES and op != "ReadVariableOp":
            return None
        edge = graph.view.data[edge.node][0]
    return None


def _through_aliases(graph: Graph, edge: Edge) -> Edge:
    while graph.view.op(edge.node) in ALIASES and graph.view.data.get(edge.node):
        edge = graph.view.data[edge.node][0]
    return edge


def integers(node: NodeDef) -> np.ndarray | None:
    """The integers of a constant."""
    tensor = attribute(node, "value").tensor
    dtype = dtype_name(tensor.dtype)
    if dtype not in ("int32", "int64"):
        return None
    shape = tuple(size or 0 for size in shape_of(tensor.tensor_shape) or ())
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    values = list(tensor.int_val if dtype == "int32" else tensor.int64_val)
    if not values:
        return None
    return np.array((values + values[-1:] * prod(shape))[: prod(shape)], dtype).reshape(shape)
