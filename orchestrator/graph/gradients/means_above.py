"""Of which means and sums over rows is a value made, whatever is made of them?

Rule: where they're all that a batch has a part in, exchanging them makes everything behind them the
joint batch's: quotients, extremes, decisions and the branches that follow from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.graph.gradients.judging import Judged, is_plain
from orchestrator.graph.graphdef.flow import Flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, Use


@dataclass(frozen=True)
class Means:
    """The way up from a value.

    Attributes:
        local: nodes whose outputs differ between ranks.
        judged: what a value is.
        can_cut: whether a mean or a sum can be exchanged for one of its uses.
    """

    graph: Graph
    local: set[str]
    flow: Flow
    judged: Callable[[Edge], Judged]
    can_cut: Callable[[Edge, Use], bool]

    def above(self, edge: Edge) -> list[tuple[Edge, Use]] | None:
        """The means and sums with their uses; None where anything else of a batch has a part in it,
        or one of them can't be exchanged.
        """
        found: list[tuple[Edge, Use]] = []
        waiting, seen = [edge.node], {edge.node}
        while waiting:
            name = waiting.pop()
            inputs, above = differing(self.graph, self.local, name), self._pivots(name)
            if not (inputs or above) or self.flow.frames.get(name):
                return None
            for source, use in inputs:
                judged = self.judged(source)
                if judged.rows:
                    return None
                if not (is_plain(judged) and self.flow.once(source.node)):
                    above.append(source.node)
                elif self.can_cut(source, use):
                    found.append((source, use))
                else:
                    return None
            waiting.extend(dict.fromkeys(node for node in above if node not in seen))
            seen.update(above)
        return found

    def _pivots(self, name: str) -> list[str]:
        """What differs and decides whether a node of a conditional runs."""
        if not self.flow.depths.get(name):
            return []
        return [node for node in self.graph.view.controls[name] if node in self.local]


def differing(graph: Graph, local: set[str], name: str) -> list[tuple[Edge, Use]]:
    """The inputs of a node that differ between ranks."""
    return [
        (source, Use(name, slot, source.port))
        for slot, source in enumerate(graph.view.data[name])
        if source.node in local and not graph.writes(source.node)
    ]
