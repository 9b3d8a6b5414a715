"""Where do gradients leave ``tf.gradients``, and which of them are rows of a table?

Rule: the frontier of the gradient scopes, before clipping and before the optimizer. Values that end
in an operation that takes indices with them are IndexedSlices: values and indices are cut as a
pair, and the graph's own deduplication does the rest. Where no scope is found, the optimizers' own
gradient inputs are cut; a gradient that flows into another gradient's computation is none to
exchange.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.op_traits import input_index
from orchestrator.graph.graphdef.tensors import COMPLEX, FLOATS, shape_of
from orchestrator.graph.graphdef.view import Edge, Use
from orchestrator.graph.worker_graph import Shape

ROWWISE = frozenset(
    {
        "Identity",
        "Mul",
        "RealDiv",
        "Div",
        "DivNoNan",
        "Neg",
        "Minimum",
        "Maximum",
        "Cast",
        "Add",
        "AddV2",
        "Sub",
        "Select",
        "SelectV2",
        "Switch",
        "Merge",
        "StopGradient",
        "CheckNumerics",
        "ClipByValue",
        "PreventGradient",
        "Reshape",
        "Where",
        "ConcatV2",
        "AddN",
    }
)
"""Operations that give a row for each row: through them values stay the values of their indices."""

INDEX_STEPS = frozenset(
    {"Unique", "UniqueV2", "Identity", "Cast", "Reshape", "ConcatV2", "Switch", "Merge"}
)
"""What indices pass on their way from the gradient to the optimizer."""


@dataclass(frozen=True)
class GradientCut:
    """One gradient to exchange: a tensor, the inputs that want the group's, and the same of its
    indices if it has some.
    """

    values: Edge
    uses: tuple[Use, ...]
    indices: Edge | None = None
    index_uses: tuple[Use, ...] = ()
    shape: Shape = None


@dataclass(frozen=True)
class Frontier:
    """What leaves the gradient scopes among a target's ancestors.

    Attributes:
        uses: tensor to the inputs outside that take it.
        beyond: the target's ancestors that no gradient is computed from: clipping, averages,
            optimizers.
    """

    uses: dict[Edge, list[Use]]
    beyond: set[str]


def frontier(graph: Graph, closure: set[str]) -> Frontier:
    """The edges from inside a gradient scope to the operations that come after all gradients.

    ``tf.gradients`` puts all that it adds into a name scope of its own, ``gradients`` where nobody
    chose another name (``tensorflow/python/ops/gradients_util.py``, ``_GradientsHelper``, 2.21).
    """
    inside = [name for name in closure if graph.gradient_scope(name) is not None]
    # By data alone: a gradient may wait for an update, a control edge, without being made from it
    beyond = closure - graph.view.ancestors(inside, control=False)
    uses: dict[Edge, list[Use]] = {}
    for name in sorted(inside):
        for use in graph.view.uses[name]:
            if use.node in beyond:
                uses.setdefault(Edge(name, use.port), []).append(use)
    return Frontier(uses, beyond)


def describe_cut(graph: Graph, edge: Edge, uses: tuple[Use, ...], beyond: set[str]) -> GradientCut:
    """A cut at ``edge``: dense, or with the indices that its values meet later on."""
    endings = list(_endings(graph, uses, beyond))
    for use in endings:
        indices = _indices_slot(graph, use)
        if indices is not None:
            origin, first = _origin_of_indices(graph, use.node, indices)
            return GradientCut(
                edge,
                uses,
                origin,
                _index_uses(graph, origin, first, beyond),
                _row_shape(graph, use),
            )
    shape = next(
        (shape for use in endings if (shape := _updated_shape(graph, use)) is not None), None
    )
    return GradientCut(edge, uses, shape=shape)


def of_activations(graph: Graph, cut: GradientCut) -> bool:
    """Whether a gradient is one of activations: of rows, and not the rows of a table. What is made
    of it for the variables comes later.
    """
    noted = attribute(graph.view.nodes[cut.values.node], "_output_shapes").list.shape
    shape = shape_of(noted[cut.values.port]) if cut.values.port < len(noted) else None
    dense = cut.indices is None and cut.shape is None
    return dense and bool(shape) and shape is not None and shape[0] is None


def _endings(graph: Graph, uses: Iterable[Use], beyond: set[str]) -> Iterator[Use]:
    """Where values end after all operations that keep their rows."""
    waiting = list(uses)
    seen: set[str] = set()
    while waiting:
        use = waiting.pop(0)
        if graph.view.op(use.node) not in ROWWISE:
            yield use
        elif use.node not in seen:
            seen.add(use.node)
            waiting.extend(
                next_use for next_use in graph.view.uses[use.node] if next_use.node in beyond
            )


def _indices_slot(graph: Graph, use: Use) -> int | None:
    """The input of the indices that belong to the values at ``use``, None where they're no rows."""
    op = graph.view.op(use.node)
    # Optimizers add up rows of equal index first: Unique, then UnsortedSegmentSum
    # (``_deduplicate_indexed_slices``, ``tensorflow/python/training/optimizer.py``, 2.21)
    if op == "UnsortedSegmentSum":
        return 1 if use.slot == 0 else None
    definition = graph.definition(use.node)
    if definition is None:
        return None
    traits = graph.traits(use.node)
    if traits.sparse and use.slot == traits.gradient:
        return input_index(definition, "indices")
    if traits.scatter and use.slot == input_index(definition, "updates"):
        return input_index(definition, "indices")
    return None


def _origin_of_indices(graph: Graph, node: str, slot: int) -> tuple[Edge, Use]:
    """Follow indices back to where they leave the gradient scope, or to where the optimizer's own
    steps on them begin.
    """
    edge = graph.view.data[node][slot]
    use = Use(node, slot, edge.port)
    for _ in range(100):  # such ways have some steps; a cycle, through Merge, has no end
        data = graph.view.data.get(edge.node, ())
        if (
            graph.gradient_scope(edge.node) is not None
            or graph.view.op(edge.node) not in INDEX_STEPS
            or not data
        ):
            break
        use = Use(edge.node, 0, data[0].port)
        edge = data[0]
    return edge, use


def _index_uses(graph: Graph, origin: Edge, first: Use, beyond: set[str]) -> tuple[Use, ...]:
    uses = [
        use
        for use in graph.view.uses[origin.node]
        if use.port == origin.port and use.node in beyond
    ]
    return tuple(uses) or (first,)


def _row_shape(graph: Graph, use: Use) -> Shape:
    shape = _updated_shape(graph, use)
    if shape is None and graph.view.op(use.node) == "UnsortedSegmentSum":
        for later in _endings(graph, graph.view.uses[use.node], set(graph.view.nodes)):
            shape = shape or _updated_shape(graph, later)
    return shape[1:] if shape else None


def _updated_shape(graph: Graph, use: Use) -> Shape:
    """Shape of the variable that the operation at ``use`` updates, where it's one that takes a
    gradient or its rows.
    """
    traits = graph.traits(use.node)
    if not traits.update and not traits.scatter:
        return None
    variable = graph.variable_of(use.node)
    return (
        None if variable is None else shape_of(attribute(graph.view.nodes[variable], "shape").shape)
    )


def optimizer_cuts(
    graph: Graph, writes: Iterable[tuple[Edge, Use]], beyond: set[str]
) -> list[GradientCut]:
    """The gradient inputs of optimizers, and the rows of scatters, among the writers' inputs that
    differ between ranks.
    """
    found: dict[tuple[Edge, Edge | None], GradientCut] = {}
    for edge, use in writes:
        traits = graph.traits(use.node)
        slot = (
            traits.gradient
            if traits.update
            else 2
            if traits.scatter and _is_sum(graph, use.node)
            else None
        )
        if slot is None:
            continue
        values = graph.view.data[use.node][slot]
        # Of a dense update only the gradient itself is cut here: a learning rate that differs is an
        # update of its own. Of a sparse one either the rows or their indices may differ
        if graph.dtype(values) not in FLOATS | COMPLEX or (
            edge != values and not (traits.sparse or traits.scatter)
        ):
            continue
        at = Use(use.node, slot, values.port)
        indices = _indices_slot(graph, at)
        if indices is None:
            found[values, None] = GradientCut(values, (at,), shape=_updated_shape(graph, at))
        else:
            rows = graph.view.data[use.node][indices]
            found[values, rows] = GradientCut(
                values, (at,), rows, (Use(use.node, indices, rows.port),), _row_shape(graph, at)
            )
    return list(found.values())


def _is_sum(graph: Graph, name: str) -> bool:
    """Whether a scatter adds up: then the group's rows may be written one after the other."""
    return graph.view.op(name).removeprefix("Resource").removeprefix("ScatterNd").removeprefix(
        "Scatter"
    ) in ("Add", "Sub")
