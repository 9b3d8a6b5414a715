"""Where do the gradients of several towers in one graph become one?

Rule: towers compute gradients of the same variables in gradient scopes of their own, and the graph
averages them. The average is exchanged, not each tower's part: it's linear, so the result is the
same, and it's one exchange instead of one for each tower.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, Use

REDUCING = frozenset({"AddN", "Add", "AddV2", "Mean", "Sum"})
LINEAR = REDUCING | {"ExpandDims", "Pack", "Concat", "ConcatV2", "Identity", "Reshape"}
STEPS = 64
"""Longest way from a tower's gradient to the average; it has four steps, more with a sum of many
towers written as a chain.
"""


def averages(graph: Graph, uses: Mapping[Edge, list[Use]], beyond: set[str]) -> dict[Edge, Edge]:
    """Frontier gradients to the tensor in which the towers' gradients have become one; those of a
    single tower aren't listed.

    Args:
        uses: the frontier: gradient to the inputs outside the gradient scopes that take it.
        beyond: the nodes after all gradients.
    """
    merged: dict[Edge, list[Edge]] = {}
    for edge, taking in uses.items():
        end = _end(graph, taking, beyond)
        if end is not None:
            merged.setdefault(end, []).append(edge)
    return {
        edge: end
        for end, edges in merged.items()
        if _of_towers(graph, end, edges, uses)
        for edge in edges
    }


def _end(graph: Graph, taking: list[Use], beyond: set[str]) -> Edge | None:
    """The last reducing operation on the only way that a gradient goes through linear operations."""
    found: Edge | None = None
    for _ in range(STEPS):
        inside = [use for use in taking if use.node in beyond]
        # A gradient that goes two ways is used on its own, too, and its average isn't all of it
        if len(inside) != 1 or graph.view.op(inside[0].node) not in LINEAR:
            break
        name = inside[0].node
        if graph.view.op(name) in REDUCING:
            found = Edge(name, 0)
        taking = graph.view.uses[name]
    return found


def _of_towers(
    graph: Graph, end: Edge, edges: Iterable[Edge], uses: Mapping[Edge, list[Use]]
) -> bool:
    """Whether ``end`` is made of these gradients of several towers and of constants, and of nothing
    else.
    """
    edges = set(edges)
    # One scope is one tf.gradients, hence one tower: a sum of its gradients is something else, such
    # as a norm
    if len({graph.gradient_scope(edge.node) for edge in edges}) < 2:
        return False
    waiting, seen = [end.node], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for source in graph.view.data[name]:
            if source in uses:
                if source not in edges:
                    return False
            elif graph.view.op(source.node) in LINEAR:
                waiting.append(source.node)
            elif graph.view.op(source.node) != "Const":
                return False
    return True
