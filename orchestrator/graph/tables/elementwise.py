"""Which operations compute each element by itself, and which tensors surely have no row for each of
a table's?

Rule: an operation is listed or it isn't elementwise. A rank is followed back to what states it
(constants, variables, placeholders, written shapes); what isn't known is told as not known.
"""

from __future__ import annotations

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import shape_of
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.worker_graph import Shape

SAME_SHAPE = frozenset({"AddN", "Merge", "Select"})
"""All their data inputs have one shape (of a Select the first may be a vector of its rows)."""

ELEMENTWISE = SAME_SHAPE | frozenset(
    {
        "Abs",
        "Add",
        "AddV2",
        "Cast",
        "CheckNumerics",
        "ClipByValue",
        "Div",
        "DivNoNan",
        "Equal",
        "Exp",
        "Expm1",
        "Floor",
        "FloorDiv",
        "FloorMod",
        "Greater",
        "GreaterEqual",
        "Identity",
        "IsFinite",
        "IsInf",
        "IsNan",
        "Less",
        "LessEqual",
        "Log",
        "Log1p",
        "LogicalAnd",
        "LogicalNot",
        "LogicalOr",
        "Maximum",
        "Minimum",
        "Mul",
        "MulNoNan",
        "Neg",
        "NotEqual",
        "OnesLike",
        "Pow",
        "PreventGradient",
        "RealDiv",
        "Reciprocal",
        "Relu",
        "Round",
        "Rsqrt",
        "SelectV2",
        "Sigmoid",
        "Sign",
        "Softplus",
        "Sqrt",
        "Square",
        "SquaredDifference",
        "StopGradient",
        "Sub",
        "Tanh",
        "TruncateDiv",
        "Xdivy",
        "Xlogy",
        "ZerosLike",
    }
)
"""Each element of the result follows from the elements at its place alone, broadcast from the
right.
"""

_SCALARS = frozenset({"L2Loss", "Size", "Rank", "NumAccumulated"})
_SHAPED = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
_HANDED_ON = frozenset({"Enter", "Exit", "RefIdentity", "RefEnter", "ReadVariableOp", "Switch"})
_STEPS = 200
"""Nodes looked at for one shape: a learning rate's schedule has some dozens, and a loss, of which
nobody asks the shape, has thousands.
"""


def shape_before(graph: Graph, edge: Edge) -> Shape:
    """The static shape of a tensor, None where it can't be told from what states shapes."""
    return _shape(graph, edge, [_STEPS])


def _shape(graph: Graph, edge: Edge, left: list[int]) -> Shape:
    left[0] -= 1
    node = graph.view.nodes.get(edge.node)
    if node is None or left[0] < 0:
        return None
    stated = _stated(graph, edge)
    if stated is not None:
        return stated
    inputs = graph.view.data[edge.node]
    if node.op in _HANDED_ON or graph.traits(edge.node).writes:
        return _shape(graph, inputs[0], left) if inputs else None
    if node.op in ELEMENTWISE:
        return _broadcast([_shape(graph, given, left) for given in inputs])
    return None


def _stated(graph: Graph, edge: Edge) -> Shape:
    """The shape that the node itself states."""
    node = graph.view.nodes[edge.node]
    if node.op in _SCALARS:
        return ()
    if node.op == "Const":
        return shape_of(attribute(node, "value").tensor.tensor_shape)
    if graph.traits(edge.node).variable or (node.op in _SHAPED and "shape" in node.attr):
        return shape_of(attribute(node, "shape").shape)
    for name in ("_output_shapes", "output_shapes"):
        shapes = node.attr[name].list.shape if name in node.attr else ()
        if edge.port < len(shapes):
            return shape_of(shapes[edge.port])
    return None


def _broadcast(shapes: list[Shape]) -> Shape:
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or not known:
        return None
    longest = max(map(len, known))
    padded = [(1,) * (longest - len(shape)) + shape for shape in known]
    return tuple(
        next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True)
    )


def has_no_rows(graph: Graph, edge: Edge, rank: int) -> bool:
    """Whether a tensor surely holds the same for each row of what has ``rank`` axes."""
    shape = shape_before(graph, edge)
    return shape is not None and (len(shape) < rank or shape[0] == 1)
