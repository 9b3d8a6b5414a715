"""Which of the variables that it's given does a function write?

Rule: an argument is written where a writer of the body, or a function that the body calls, writes
it; a handle is followed through Identity. Of a call whose arguments can't be matched all count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tensorboard.compat.proto.function_pb2 import FunctionDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.library import functions_called_by

_SKIPPED = {"If": 1, "StatelessIf": 1, "Case": 1, "StatelessCase": 1}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", *_SKIPPED}
DEEPEST = 20
"""Calls within calls; a function that calls itself goes no deeper."""


class FunctionWrites:
    """The answers for the functions of one library."""

    def __init__(self, library: Mapping[str, FunctionDef], writes: Callable[[str], bool]) -> None:
        """``writes`` tells of an operation type whether it writes the variable it's given first."""
        self._library = library
        self._writes = writes
        self._known: dict[str, frozenset[int] | None] = {}

    def inputs_written(self, node: NodeDef, depth: int = 0) -> frozenset[int] | None:
        """Numbers of the data inputs that a call writes; None where that can't be told."""
        found: set[int] = set()
        if depth > DEEPEST or not (node.op in _CALLS or node.op in self._library):
            return None
        for name in functions_called_by(node, self._library):
            written = self._arguments_written(name, depth)
            if written is None:
                return None
            found.update(number + _SKIPPED.get(node.op, 0) for number in written)
        return frozenset(found)

    def _arguments_written(self, name: str, depth: int) -> frozenset[int] | None:
        if name not in self._known:
            self._known[name] = self._looked_up(self._library[name], depth)
        return self._known[name]

    def _looked_up(self, function: FunctionDef, depth: int) -> frozenset[int] | None:
        numbers = {argument.name: at for at, argument in enumerate(function.signature.input_arg)}
        nodes = {node.name: node for node in function.node_def}
        found: set[int] = set()
        for node in function.node_def:
            data = [text for text in node.input if not text.startswith("^")]
            written: frozenset[int] | None = frozenset({0}) if self._writes(node.op) else None
            if written is None:
                if not any(True for _ in functions_called_by(node, self._library)):
                    continue
                written = self.inputs_written(node, depth + 1)
                if written is None:
                    return None
            sources = (_origin(data[at], nodes) for at in written if at < len(data))
            found.update(numbers[source] for source in sources if source in numbers)
        return frozenset(found)


def _origin(text: str, nodes: Mapping[str, NodeDef]) -> str:
    """The argument that an input of a body's node hands on, else the node that makes it."""
    name = text.partition(":")[0]
    for _ in range(DEEPEST):
        if name not in nodes or nodes[name].op != "Identity" or not nodes[name].input:
            break
        name = nodes[name].input[0].partition(":")[0]
    return name
