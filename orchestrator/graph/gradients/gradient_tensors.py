"""Where do gradients leave ``tf.gradients``, and which of them are rows of a table?

Rule: the frontier of the gradient scopes, before clipping and before the optimizer. Values that end
in an operation that takes indices with them are IndexedSlices (``table_rows``): values and indices
are cut as a pair, and the graph's own deduplication does the rest. Where no scope is found, the optimizers' own
gradient inputs are cut; a gradient that flows into another gradient's computation is none to
exchange.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.graph.gradients.table_rows import (
    Unpaired,
    apart,
    endings,
    indices_of,
    indices_slot,
)
from orchestrator.graph.gradients.towers import averages
from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import COMPLEX, FLOATS, shape_of
from orchestrator.graph.graphdef.view import Edge, Use
from orchestrator.graph.worker_graph import Shape


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


def candidates_of(graph: Graph, front: Frontier) -> list[GradientCut]:
    """Every gradient of the frontier, or the towers' average of it; one that no batch reaches is
    exchanged too.

    Machines may differ in its last bit.

    Raises:
        Unpaired: rows of a table whose indices can't be told.
    """
    floats = {
        edge: uses for edge, uses in front.uses.items() if graph.dtype(edge) in FLOATS | COMPLEX
    }
    merged = averages(graph, floats, front.beyond)
    cuts = [
        cut
        for edge, uses in floats.items()
        if edge not in merged
        for some in apart(graph, uses)
        if not _of_activations(graph, cut := _describe_cut(graph, edge, some, front.beyond))
    ]
    for end in sorted(set(merged.values())):
        uses = tuple(
            use
            for use in graph.view.uses[end.node]
            if use.port == end.port and use.node in front.beyond
        )
        cuts.append(_describe_cut(graph, end, uses, front.beyond))
    return cuts


def _describe_cut(graph: Graph, edge: Edge, uses: tuple[Use, ...], beyond: set[str]) -> GradientCut:
    """A cut at ``edge``: dense, or with the indices that its values meet later on.

    Raises:
        Unpaired: they can't be told.
    """
    found = list(endings(graph, uses, beyond))
    try:
        indices = indices_of(graph, found, beyond)
    except Unpaired as why:
        raise Unpaired(f"the gradient {edge.tensor} is of rows of a table, and {why}") from why
    if indices is not None:
        return GradientCut(edge, uses, indices.edge, indices.uses, _row_shape(graph, indices.met))
    shape = next(
        (shape for each in found if (shape := _updated_shape(graph, each.use)) is not None), None
    )
    return GradientCut(edge, uses, shape=shape)


def _of_activations(graph: Graph, cut: GradientCut) -> bool:
    """Whether a gradient is one of activations: of rows, and not the rows of a table. What is made
    of it for the variables comes later.
    """
    noted = attribute(graph.view.nodes[cut.values.node], "_output_shapes").list.shape
    shape = shape_of(noted[cut.values.port]) if cut.values.port < len(noted) else None
    dense = cut.indices is None and cut.shape is None
    return dense and bool(shape) and shape is not None and shape[0] is None


def _row_shape(graph: Graph, use: Use) -> Shape:
    shape = _updated_shape(graph, use)
    if shape is None and graph.view.op(use.node) == "UnsortedSegmentSum":
        for later in endings(graph, graph.view.uses[use.node], set(graph.view.nodes)):
            shape = shape or _updated_shape(graph, later.use)
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
        indices = indices_slot(graph, at)
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
