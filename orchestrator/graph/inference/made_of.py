"""From which weights and which inputs is each tensor computed, and which inputs are labels?

Rule: a feature is an input that meets a weight itself somewhere, a label one that never does;
switches and what random draws are compared with are neither.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.inputs.ports import PLACEHOLDERS

HANDING = ALIASES | {
    "Cast",
    "Transpose",
    "Reshape",
    "ConcatV2",
    "ExpandDims",
    "Squeeze",
    "Pack",
    "ReadVariableOp",
}
"""What leaves a weight a weight: the same numbers, laid out otherwise."""
SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})
"""What tells of a tensor its shape alone."""


@dataclass(frozen=True)
class MadeOf:
    """What each node is computed from.

    Attributes:
        weights: from a trained variable.
        sources: from which inputs, a bit for each.
        features: the bits of those that meet a weight itself.
        labels: the bits of those that are labels.
        late: no weight comes in after it.
        closed: the graph has no inputs at all.
    """

    graph: Graph
    weights: dict[str, bool]
    sources: dict[str, int]
    features: int
    labels: int
    late: frozenset[str]
    closed: bool

    def computed(self, name: str) -> bool:
        """Whether a node is the model's, labels aside: weights and features meet in it."""
        sources = self.sources.get(name, 0)
        return (
            self.weights.get(name, False)
            and (sources != 0 or self.closed)
            and not sources & self.labels
        )


class _Spreading:
    """What nodes are computed from, spread along the edges until nothing changes: a loop hands back
    what its body gives, so that one pass isn't enough.
    """

    def __init__(self, graph: Graph, trainable: frozenset[str]) -> None:
        self._graph, self._trainable = graph, trainable
        self.bits: dict[Edge, int] = {}
        self.weights: dict[str, bool] = {}
        self.sources: dict[str, int] = {}
        self._bare: set[str] = set()
        self.meeting: set[str] = set()
        self.features = 0
        self.order = [
            name
            for name in graph.view.order()[0]
            if graph.gradient_scope(name) is None
            and not graph.writes(name)
            and graph.view.op(name) not in SHAPES
        ]
        while self._pass():
            pass

    def _pass(self) -> bool:
        changed = False
        for name in self.order:
            weights, sources = self._weights(name), self._sources(name)
            if (weights, sources) != (self.weights.get(name), self.sources.get(name)):
                self.weights[name], self.sources[name] = weights, sources
                changed = True
            self._meet(name)
        return changed

    def _weights(self, name: str) -> bool:
        edges = self._graph.view.data[name]
        return name in self._trainable or any(self.weights.get(edge.node) for edge in edges)

    def _sources(self, name: str) -> int:
        if self._graph.view.op(name) in PLACEHOLDERS - {"PlaceholderWithDefault"}:
            return self.bits.setdefault(Edge(name, 0), 1 << len(self.bits))
        if self._graph.traits(name).source:
            return 0  # its ports are inputs of their own
        found = 0
        for edge in self._graph.view.data[name]:
            found |= self._mask(edge)
        return found

    def _mask(self, edge: Edge) -> int:
        if self._graph.traits(edge.node).source:
            return self.bits.setdefault(edge, 1 << len(self.bits))
        return self.sources.get(edge.node, 0)

    def _meet(self, name: str) -> None:
        """Whether a weight itself meets an input here, which makes that a feature."""
        edges = self._graph.view.data[name]
        if name in self._trainable or (
            self._graph.view.op(name) in HANDING and self._all_bare(edges)
        ):
            self._bare.add(name)
        elif any(edge.node in self._bare for edge in edges):
            for edge in edges:
                self.features |= self._mask(edge)
            self.meeting.add(name)

    def _all_bare(self, edges: tuple[Edge, ...]) -> bool:
        """Whether what is handed on is a weight; a second input says how, as a constant."""
        return bool(edges) and (edges[0].node in self._bare or edges[-1].node in self._bare)


def made_of(graph: Graph, trainable: frozenset[str]) -> MadeOf:
    """What each node of a graph is computed from; ``trainable`` are its trained variables."""
    spread = _Spreading(graph, trainable)
    met = [name for name in spread.meeting if spread.sources[name] or not spread.bits]
    before = graph.view.ancestors(met, control=False)
    late = frozenset(name for name in spread.order if name not in before) | frozenset(met)
    every = (1 << len(spread.bits)) - 1
    labels = every & ~spread.features & ~_asides(graph, spread.bits)
    return MadeOf(
        graph, spread.weights, spread.sources, spread.features, labels, late, not spread.bits
    )


def _asides(graph: Graph, bits: dict[Edge, int]) -> int:
    """The inputs that are no labels either: switches, and what random draws are compared with."""
    found = 0
    for edge, bit in bits.items():
        drawn = any(
            graph.traits(other.node).random
            for use in graph.view.uses[edge.node]
            for other in graph.view.data[use.node]
        )
        if graph.dtype(edge) == "bool" or drawn:
            found |= bit
    return found
