"""How do the nodes of a graph hang together?

Rule: one pass over the nodes builds the index, every question after that costs what it touches, and
no question is quadratic. A view is a snapshot: whoever edits the graph builds a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from sys import intern
from typing import NamedTuple, TypeVar

from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

T = TypeVar("T")
CLOSURES = 4
"""Answers kept of what a node needs: planning asks the same of the train op again and again."""


class Edge(NamedTuple):
    """An output of a node, as a consumer names it."""

    node: str
    port: int

    @property
    def tensor(self) -> str:
        """``node:port``, as users write it."""
        return f"{self.node}:{self.port}"

    @property
    def text(self) -> str:
        """As a NodeDef's ``input`` writes it."""
        return self.node if self.port == 0 else f"{self.node}:{self.port}"


class Use(NamedTuple):
    """A data input of a node: ``node``'s input number ``slot`` takes ``port`` of the producer asked
    about.
    """

    node: str
    slot: int
    port: int


def parse_tensor(text: str) -> Edge:
    """``"a/b:1"`` as an edge; a name without a port means port 0."""
    name, colon, port = text.rpartition(":")
    if colon and port.isdigit():
        return Edge(name, int(port))
    return Edge(text, 0)


class _Edges(dict[str, Edge]):
    """Edges by their text, each parsed once."""

    def __missing__(self, text: str) -> Edge:
        parsed = parse_tensor(text) if ":" in text else Edge(text, 0)
        edge = self[text] = Edge(intern(parsed.node), parsed.port)
        return edge


class _Sparse(dict[str, T]):
    """A mapping that most nodes have no part in: the answer for those is one and the same empty
    one, and isn't kept.
    """

    def __init__(self, nothing: T) -> None:
        super().__init__()
        self._nothing = nothing

    def __missing__(self, name: str) -> T:
        return self._nothing


class GraphView:
    """An index over the top-level nodes of a graph.

    Attributes:
        nodes: name to NodeDef, in the graph's order.
        data: name to its data inputs, in order.
        controls: name to the nodes of its control inputs.
        uses: name to the data inputs that take its outputs.
        control_uses: name to the nodes that wait for it.
    """

    def __init__(self, graph: GraphDef) -> None:
        self.nodes: dict[str, NodeDef] = {}
        self.ops: dict[str, str] = {}
        for node in graph.node:
            name = intern(node.name)
            self.nodes[name] = node
            self.ops[name] = intern(node.op)
        self.data: dict[str, tuple[Edge, ...]] = {}
        self.controls: _Sparse[tuple[str, ...]] = _Sparse(())
        self.uses: _Sparse[list[Use]] = _Sparse([])
        self.control_uses: _Sparse[list[str]] = _Sparse([])
        self.dangling: list[tuple[str, str]] = []
        self._order: tuple[list[str], list[str]] | None = None
        self._closures: dict[tuple[frozenset[str], bool], set[str]] = {}
        edges = _Edges()
        for name, node in self.nodes.items():
            self._index(name, node, edges)

    def _index(self, name: str, node: NodeDef, edges: dict[str, Edge]) -> None:
        data: list[Edge] = []
        controls: list[str] = []
        for text in node.input:
            if text.startswith("^"):
                source = intern(text[1:])
                controls.append(source)
                if source in self.nodes:
                    self.control_uses.setdefault(source, []).append(name)
                else:
                    self.dangling.append((name, text))
                continue
            edge = edges[text]
            if edge[0] in self.nodes:
                self.uses.setdefault(edge[0], []).append(Use(name, len(data), edge[1]))
            else:
                self.dangling.append((name, text))
            data.append(edge)
        self.data[name] = tuple(data)
        if controls:
            self.controls[name] = tuple(controls)

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def op(self, name: str) -> str:
        """The operation type of a node; ``""`` where there is none of this name."""
        return self.ops.get(name, "")

    def ancestors(
        self,
        starts: Iterable[str],
        *,
        control: bool = True,
        stop: Callable[[str], bool] | None = None,
    ) -> set[str]:
        """All nodes that ``starts`` need, themselves included.

        Args:
            control: follow control edges too.
            stop: nodes whose own inputs aren't followed; they're still part of the answer.
        """
        begins = frozenset(name for name in starts if name in self.nodes)
        if stop is not None:
            return self._above(begins, control, stop)
        key = (begins, control)
        if key not in self._closures:
            while len(self._closures) >= CLOSURES:
                del self._closures[next(iter(self._closures))]
            self._closures[key] = self._above(begins, control, None)
        return set(self._closures[key])

    def _above(
        self, begins: frozenset[str], control: bool, stop: Callable[[str], bool] | None
    ) -> set[str]:
        data, controls = self.data, self.controls if control else {}
        seen = set(begins)
        waiting = list(seen)
        while waiting:
            name = waiting.pop()
            if stop is not None and stop(name):
                continue
            for edge in data.get(name, ()):
                source = edge[0]
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)
            for source in controls.get(name, ()):
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)
        return {name for name in seen if name in self.nodes} if self.dangling else seen

    def descendants(
        self,
        starts: Iterable[str],
        *,
        control: bool = True,
        within: set[str] | None = None,
        stop: Callable[[str], bool] | None = None,
    ) -> set[str]:
        """All nodes that depend on ``starts``, themselves included; ``within`` limits where it
        looks, ``stop`` where it goes on.
        """
        seen = {name for name in starts if name in self.nodes}
        waiting = list(seen)
        while waiting:
            name = waiting.pop()
            if stop is not None and stop(name):
                continue
            targets = [use.node for use in self.uses[name]]
            if control:
                targets.extend(self.control_uses[name])
            for target in targets:
                if target not in seen and (within is None or target in within):
                    seen.add(target)
                    waiting.append(target)
        return seen

    def order(self) -> tuple[list[str], list[str]]:
        """Nodes in topological order, and those on a cycle that no loop explains; worked out once,
        not to be changed.

        The edges from a loop's NextIteration to its Merge are taken out first: they're the only
        cycles that TensorFlow knows.
        """
        if self._order is None:
            self._order = self._in_order()
        return self._order

    def _in_order(self) -> tuple[list[str], list[str]]:
        missing = {name: self._waits_for(name) for name in self.nodes}
        done = [name for name, count in missing.items() if count == 0]
        for name in done:  # grows as it goes
            for use in self.uses[name]:
                target = use[0]
                if self.ops[name] in NEXT_ITERATIONS and self.ops[target] in MERGES:
                    continue
                missing[target] -= 1
                if missing[target] == 0:
                    done.append(target)
            for target in self.control_uses[name]:
                missing[target] -= 1
                if missing[target] == 0:
                    done.append(target)
        if len(done) == len(missing):
            return done, []
        return done, [name for name, count in missing.items() if count > 0]

    def _waits_for(self, name: str) -> int:
        if self.ops[name] not in MERGES and not self.dangling:
            return len(self.data[name]) + len(self.controls[name])
        sources = [edge.node for edge in self.data[name] if edge.node in self.nodes]
        if self.ops[name] in MERGES:
            sources = [source for source in sources if self.ops[source] not in NEXT_ITERATIONS]
        return len(sources) + sum(1 for source in self.controls[name] if source in self.nodes)


MERGES = frozenset({"Merge", "RefMerge"})
NEXT_ITERATIONS = frozenset({"NextIteration", "RefNextIteration"})


def resolve_alias(view: GraphView, edge: Edge, through: Mapping[str, int] | frozenset[str]) -> Edge:
    """Follow ``edge`` back through operations of the given types by their first data input."""
    seen = 0
    while view.op(edge.node) in through and view.data[edge.node] and seen < 1000:
        edge = view.data[edge.node][0]
        seen += 1
    return edge
