"""What becomes of numbers that are drawn to say which rows are wanted, as candidate samplers do?

Rule: they're drawn once for each batch, before its rows are fetched, and fed to all that takes them:
asked again an operation would draw others, and the gradients would belong to other rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.graph.graphdef.edit import Editor, shape_attribute, type_attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.worker_tables import Drawn

CALLS_PYTHON = frozenset({"PyFunc", "EagerPyFunc"})


def draws(graph: Graph, name: str) -> bool:
    """Whether a node may give another value when it's asked again."""
    return graph.draws_from_outside(name) or graph.view.op(name) in CALLS_PYTHON


def drawn_above(graph: Graph, ids: Iterable[str], fed: frozenset[str]) -> list[str]:
    """The nodes among what ``ids`` follow from that draw, in the graph's order.

    Args:
        fed: nodes whose values come with each batch.
    """
    above = graph.view.ancestors(ids)
    return [
        name
        for name in graph.view.nodes
        if name in above and name not in fed and draws(graph, name)
    ]


def feed_drawn(
    editor: Editor, graph: Graph, names: Sequence[str], targets: Sequence[str]
) -> tuple[Drawn, ...]:
    """Let everything that takes what ``names`` draw take what is fed.

    Args:
        targets: the operations that train.
    """
    above = [graph.view.ancestors([target]) for target in targets]
    found: list[Drawn] = []
    for name in names:
        needing = [at for at, needed in enumerate(above) if name in needed]
        for port in sorted({use.port for use in graph.view.uses[name]}):
            edge = Edge(name, port)
            attributes = {
                "dtype": type_attribute(graph.dtype(edge)),
                "shape": shape_attribute(None),
            }
            place = f"tables/drawn/{len(found)}"
            feed = Edge(editor.add("Placeholder", place, attributes=attributes), 0)
            for use in graph.view.uses[name]:
                if use.port == port:
                    editor.set_input(use.node, use.slot, feed)
            found.append(Drawn(edge.tensor, feed.tensor, tuple(needing or range(len(above)))))
    return tuple(found)
