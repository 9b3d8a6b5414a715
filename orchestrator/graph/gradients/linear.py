"""Is what an operation gives for the mean of its inputs the mean of what it gives for each?

Rule: for linear operations, in the inputs that differ; a product is linear in one factor and not in
two. What isn't listed isn't linear.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import COMPLEX, FLOATS
from orchestrator.graph.graphdef.view import Edge

_FIRST = frozenset({0})
_ONE_OF_TWO = frozenset({"Mul", "MatMul", "BatchMatMul", "BatchMatMulV2"})
_IN_ALL = frozenset(
    {"Add", "AddV2", "AddN", "Sub", "Neg", "Identity", "BiasAdd", "Pack", "Merge", "RefMerge"}
)
_IN_SOME: Mapping[str, frozenset[int]] = {
    **dict.fromkeys(
        (
            "RealDiv",
            "Div",
            "DivNoNan",
            "Reshape",
            "Squeeze",
            "ExpandDims",
            "Transpose",
            "StridedSlice",
            "Slice",
            "GatherV2",
            "StopGradient",
            "PreventGradient",
            "Snapshot",
            "Switch",
            "RefSwitch",
            "Real",
            "Imag",
            "Conj",
        ),
        _FIRST,
    ),
    **dict.fromkeys(("Select", "SelectV2"), frozenset({1, 2})),
}


def linear_inputs(graph: Graph, name: str, differing: set[int]) -> bool:
    """Whether a node is linear in its ``differing`` inputs together, given by their numbers."""
    op = graph.view.op(name)
    if op == "Cast":
        ends = (graph.dtype(Edge(name, 0)), graph.dtype(graph.view.data[name][0]))
        return all(dtype in FLOATS | COMPLEX for dtype in ends)
    if op in _ONE_OF_TWO:
        return len(differing) == 1
    if op == "ConcatV2":
        return len(graph.view.data[name]) - 1 not in differing
    return op in _IN_ALL or differing <= _IN_SOME.get(op, frozenset())
