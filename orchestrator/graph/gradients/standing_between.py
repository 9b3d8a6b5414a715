"""Does anything stand between a gradient and its variable that a mean can't pass?

Rule: asked where no gradient scope tells where gradients end, so that they're cut at the variables'
own inputs: what has the variable's shape there, or is a single number, comes after all rows were
added up. Clipping, a product of the gradient with its own norm, an optimizer's own moments: done
before the exchange they give each worker's, and no group's mean makes up for it.
"""

from __future__ import annotations

from orchestrator.graph.gradients.training_writers import LINEAR_ASSIGNMENTS
from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import shape_of
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.worker_graph import Shape

_BENDING = frozenset(
    {
        "Minimum",
        "Maximum",
        "ClipByValue",
        "Sign",
        "Sqrt",
        "Rsqrt",
        "Square",
        "Pow",
        "Abs",
        "Tanh",
        "Round",
        "Rint",
    }
)
_SIZES = frozenset({"Shape", "ShapeN", "Size", "Rank"})
_PRODUCTS = frozenset({"Mul", "RealDiv", "Div", "DivNoNan"})
_RESHAPING = frozenset(
    {"Reshape", "Squeeze", "ExpandDims", "Split", "SplitV", "Slice", "StridedSlice", "ConcatV2"}
)
"""What flattens gradients into one vector and takes them out of it again."""
_PASSED = (
    _BENDING
    | _PRODUCTS
    | _RESHAPING
    | {
        "Identity",
        "Neg",
        "Add",
        "AddV2",
        "AddN",
        "Sub",
        "Cast",
        "Select",
        "SelectV2",
        "CheckNumerics",
        "StopGradient",
    }
)


def bent_before(graph: Graph, local: set[str], value: Edge, writer: str) -> str:
    """Why a value can't be cut where a variable takes it, since no gradient scope tells of an
    earlier place; empty where it can.

    Args:
        local: nodes whose outputs differ between ranks.
        writer: what takes it.
    """
    variable = graph.variable_of(writer)
    shape = (
        None if variable is None else shape_of(attribute(graph.view.nodes[variable], "shape").shape)
    )
    found = nonlinear_between(graph, local, value, shape)
    if (
        found
        and graph.view.op(writer) not in LINEAR_ASSIGNMENTS
        and not graph.traits(writer).update
    ):
        # What is assigned may be a statistic of the batch too: a gradient follows from its variable
        found = found if variable in graph.view.ancestors([found], control=False) else ""
    if not found:
        return ""
    return (
        f"no gradient scope tells where the gradient of {variable} ends, so it would be exchanged at {writer}, and {found} "
        f"({graph.view.op(found)}) stands before that: of each worker's own gradient, not of the group's"
    )


def nonlinear_between(graph: Graph, local: set[str], value: Edge, shape: Shape) -> str:
    """The operation nearest to the variable that isn't linear in values of one worker; ``""`` where
    there is none.

    Args:
        local: nodes whose outputs differ between ranks.
        value: what the variable is updated with.
        shape: the variable's.
    """
    if shape is None:
        return ""
    waiting, seen = [(value, shape)], {value}
    while waiting:
        edge, shape = waiting.pop(0)
        op = graph.view.op(edge.node)
        # Of another shape it still has rows: those are added up later, and what is done to each
        # row before that is the loss's own business
        if edge.node not in local or op not in _PASSED or _noted(graph, edge) not in (shape, ()):
            continue
        data = graph.view.data[edge.node]
        differing = [each for each in data if _follows_from_values(graph, local, each)]
        if op in _BENDING or (op in _PRODUCTS and len(differing) > 1):
            return edge.node
        for each in differing:
            before = _noted(graph, each) if op in _RESHAPING else shape
            if each not in seen and before is not None and None not in before:
                waiting.append((each, before))
        seen.update(differing)
    return ""


def _follows_from_values(graph: Graph, local: set[str], edge: Edge) -> bool:
    """Whether a tensor follows from what a batch holds; from how many rows it has doesn't count."""
    waiting, seen = [edge.node], {edge.node}
    while waiting:
        name = waiting.pop()
        if name not in local or graph.view.op(name) in _SIZES:
            continue
        sources = [each.node for each in graph.view.data[name]]
        if not any(source in local for source in sources):
            return True
        waiting.extend(source for source in sources if source not in seen)
        seen.update(sources)
    return False


def _noted(graph: Graph, edge: Edge) -> Shape:
    noted = attribute(graph.view.nodes[edge.node], "_output_shapes").list.shape
    return shape_of(noted[edge.port]) if edge.port < len(noted) else None
