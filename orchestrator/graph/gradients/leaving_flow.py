"""Where does a gradient that is computed inside of a loop or a conditional leave it?

Rule: it's followed through operations that are linear in what differs between ranks, to the Exit or
the Merge behind which it's there in every step: a sum over a loop's rounds, the gradient of
whichever branch was taken. The mean of those is what a group wants, as long as all ranks take the
same branch and as many rounds. Anything else on the way (a maximum over the rounds, clipping on a
branch) would be of each worker's own gradient, and is named.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.graph.gradients.linear import linear_inputs
from orchestrator.graph.graphdef.branches import SWITCHES, Branches
from orchestrator.graph.graphdef.flow import Flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import MERGES, NEXT_ITERATIONS, Edge, Use

_PASSING = NEXT_ITERATIONS | {"Exit", "RefExit", "Enter", "RefEnter"}


class Enclosed(Exception):
    """Why a gradient can't be led out of its loop or conditional; the graph isn't cut then."""


def outside(
    graph: Graph,
    flow: Flow,
    uses: Mapping[Edge, list[Use]],
    beyond: set[str],
    differing: set[str],
) -> dict[Edge, list[Use]]:
    """The frontier, in which what runs on a branch or in a loop is replaced by what comes out of it.

    Args:
        uses: gradient to the inputs that take it.
        beyond: the nodes after all gradients.
        differing: the nodes whose outputs may differ between ranks.

    Raises:
        Enclosed: one can't be led out.
    """
    found: dict[Edge, list[Use]] = {}
    way = _Way(graph, flow, beyond, differing)
    for edge, taking in uses.items():
        if flow.once(edge.node):
            found[edge] = taking
            continue
        for end in way.ends(edge, taking):
            found[end] = [
                use
                for use in graph.view.uses[end.node]
                if use.port == end.port and use.node in beyond
            ]
    return found


class _Way:
    def __init__(self, graph: Graph, flow: Flow, beyond: set[str], differing: set[str]) -> None:
        self._graph, self._flow, self._beyond, self._differing = graph, flow, beyond, differing
        self._branches = Branches(graph.view)

    def ends(self, edge: Edge, taking: list[Use]) -> list[Edge]:
        """The first tensors on each way of a gradient that are there in every step."""
        found: dict[Edge, None] = {}
        waiting, seen = [use.node for use in taking], set[str]()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            self._require_linear(edge, name)
            later = [use for use in self._graph.view.uses[name] if use.node in self._beyond]
            if self._flow.once(name):
                found.update(dict.fromkeys(Edge(name, use.port) for use in later))
            else:
                waiting.extend(use.node for use in later)
        return list(found)

    def _require_linear(self, edge: Edge, name: str) -> None:
        view, op = self._graph.view, self._graph.view.op(name)
        slots = {at for at, source in enumerate(view.data[name]) if source.node in self._differing}
        where = f"the gradient {edge.node} is computed inside a loop or a conditional"
        if op in SWITCHES and 1 in slots:
            raise Enclosed(
                f"{where}, and whether it goes on or runs depends on the batch, by {name}"
            )
        if op in MERGES and not self._alike(name):
            raise Enclosed(f"{where}, and which branch is taken depends on the batch, by {name}")
        if op not in _PASSING and not linear_inputs(self._graph, name, slots):
            raise Enclosed(
                f"{where}, and {name} ({op}) stands in it: of each worker's own gradient, not of the group's"
            )

    def _alike(self, merge: str) -> bool:
        """Whether a Merge takes the same branch on all ranks; that of a loop has its Switch asked."""
        sources = self._graph.view.data[merge]
        if any(self._graph.view.op(source.node) in NEXT_ITERATIONS for source in sources):
            return True
        for source in sources:
            around = self._branches.around(source, self._flow.depths)
            if around is None or any(each.node in self._differing for each, _ in around):
                return False
        return True
