"""Where does a tensor of an input pipeline come from, across the graph and its function bodies?

Rule: a body's input ``node:output:0`` names a node as the graph's ``node:0`` does; what no node of
the body answers to is an argument of the function. Every walk visits a node once.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.constants import strings_in
from orchestrator.graph.graphdef.library import functions_called_by, label, reachable_functions

PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
PATTERNS = frozenset({"MatchingFiles", "MatchingFilesDataset", "ExperimentalMatchingFilesDataset"})


@dataclass(frozen=True)
class NodePlace:
    """A node and the function whose body it stands in (``""`` for the graph itself)."""

    function: str
    node: NodeDef

    @property
    def label(self) -> str:
        """How messages call it."""
        return label(self.function, self.node.name)


@dataclass
class ValueOrigins:
    """What the values of a tensor are made of.

    Attributes:
        strings: the non-empty strings of the constants among its ancestors, in order.
        constants: those constants.
        placeholders: the graph's placeholders among its ancestors.
        computed: operations between them that make new strings (joins, reads), or patterns to be
            matched.
        arguments: whether it depends on an argument of the function that it stands in.
    """

    strings: list[str] = field(default_factory=list)
    constants: list[NodePlace] = field(default_factory=list)
    placeholders: list[str] = field(default_factory=list)
    computed: list[NodePlace] = field(default_factory=list)
    arguments: bool = False


class Bodies:
    """The nodes of a graph and of its function bodies, by name.

    Attributes:
        enqueues: queue node to the operations that fill it.
        library: function name to its definition.
    """

    def __init__(self, graph: GraphDef) -> None:
        self.graph = graph
        self._nodes: dict[str, dict[str, NodeDef]] = {"": {node.name: node for node in graph.node}}
        for function in graph.library.function:
            self._nodes[function.signature.name] = {node.name: node for node in function.node_def}
        self.enqueues: dict[str, list[NodeDef]] = defaultdict(list)
        for node in graph.node:
            if "Enqueue" in node.op and node.input:
                self.enqueues[node.input[0].partition(":")[0]].append(node)
        self.library = {function.signature.name: function for function in graph.library.function}

    def find(self, function: str, text: str) -> NodePlace | None:
        """The node that an input's text names; None for a function's argument."""
        name = text.removeprefix("^").partition(":")[0]
        node = self._nodes.get(function, {}).get(name)
        return None if node is None else NodePlace(function, node)

    def data_inputs(self, place: NodePlace) -> list[str]:
        """The texts of a node's data inputs."""
        return [text for text in place.node.input if not text.startswith("^")]

    def called(self, node: NodeDef) -> list[str]:
        """The functions that a node calls, once each."""
        return list(dict.fromkeys(functions_called_by(node, self.library)))

    def results(self, function: str) -> list[NodePlace]:
        """The nodes that a function's results come from."""
        found = (self.find(function, text) for text in self.library[function].ret.values())
        return [place for place in found if place is not None]

    def reached(self, nodes: Iterable[NodeDef]) -> Iterator[NodePlace]:
        """Every node of the function bodies that ``nodes`` can call."""
        for name, function in reachable_functions(self.graph, nodes).items():
            for node in function.node_def:
                yield NodePlace(name, node)

    def origins(self, function: str, texts: Iterable[str]) -> ValueOrigins:
        """What the tensors named by ``texts``, inputs within ``function``, are made of; the calls
        of functions aren't followed.
        """
        found = ValueOrigins()
        pending, seen = deque(texts), set[str]()
        while pending:
            place = self.find(function, text := pending.popleft())
            # In the graph itself it's a damaged edge, which ``wiring`` tells of
            if place is None:
                found.arguments = found.arguments or bool(function)
                continue
            if text.startswith("^") or place.node.name in seen:
                continue
            seen.add(place.node.name)
            self._note(place, found)
            pending.extend(self.data_inputs(place))
        return found

    @staticmethod
    def _note(place: NodePlace, found: ValueOrigins) -> None:
        node = place.node
        if node.op == "Const" and "value" in node.attr:
            values = [value for value in strings_in(node.attr["value"].tensor) if value]
            if values:
                found.strings.extend(values)
                found.constants.append(place)
        elif node.op in PLACEHOLDERS:
            found.placeholders.append(node.name)
        elif node.op in PATTERNS or node.op in (
            "StringJoin",
            "AsString",
            "ReadFile",
            "PyFunc",
            "StringFormat",
        ):
            found.computed.append(place)
