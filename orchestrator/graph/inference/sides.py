"""Which side of a conditional trains, and what is dead once the other one is chosen?

Rule: the side on which random numbers are drawn, an average is moved or batch norm takes the
batch's own statistics. Where both sides do or neither, the graph doesn't tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, resolve_alias

_SWITCHES = ("Switch", "RefSwitch")
_MERGES = ("Merge", "RefMerge")


def inference_side(
    graph: Graph, name: str, within: set[str], trainable: frozenset[str]
) -> bool | None:
    """The value of a switch for inference; None where the graph doesn't tell."""
    training = {
        port ^ turned
        for switch, turned in _switches(graph, name, within)
        for port in (0, 1)
        if _trains(graph, switch, port, within, trainable)
    }
    return None if len(training) != 1 else training == {0}


def dead(graph: Graph, chosen: Mapping[str, bool], within: set[str]) -> set[str]:
    """What is never computed once conditionals are set.

    Args:
        chosen: the value of each switch.
    """
    found: set[str] = set()
    for name, value in chosen.items():
        for switch, turned in _switches(graph, name, within):
            port = 1 - (int(value) ^ turned)
            first = [use.node for use in graph.view.uses[switch] if use.port == port]
            found |= _side(graph, first, within)
    return {name for name in found if graph.view.op(name) not in _MERGES}


def _switches(graph: Graph, name: str, within: set[str]) -> Iterator[tuple[str, int]]:
    """What a placeholder switches, and whether by its contrary (1)."""
    for switch in within:
        if graph.view.op(switch) in _SWITCHES:
            turned = _turns(graph, graph.view.data[switch][1], name)
            if turned is not None:
                yield switch, turned


def _side(graph: Graph, first: Iterable[str], within: set[str]) -> set[str]:
    return graph.view.descendants(
        first, within=within, stop=lambda name: graph.view.op(name) in _MERGES
    )


def _turns(graph: Graph, edge: Edge, name: str) -> int | None:
    """0 where a switch follows the placeholder, 1 where its contrary, None where another."""
    turned = 0
    for _ in range(10):
        edge = resolve_alias(graph.view, edge, frozenset({"Identity"}))
        if edge.node == name:
            return turned
        if graph.view.op(edge.node) != "LogicalNot":
            return None
        turned ^= 1
        edge = graph.view.data[edge.node][0]
    return None


def _trains(
    graph: Graph, switch: str, port: int, within: set[str], trainable: frozenset[str]
) -> bool:
    """Whether one side of a switch draws random numbers, moves an average or normalises by the
    batch.
    """
    first = [use.node for use in graph.view.uses[switch] if use.port == port]
    pivots = [node for node in first if graph.view.op(node) == "Identity"]
    side = _side(graph, first, within)
    side |= {use for pivot in pivots for use in graph.view.control_uses[pivot]}
    return any(is_training(graph, name) for name in side) or any(
        not trainable.issuperset(graph.written_by(name))
        for name in _on_this_side(graph, [*first, *pivots])
        if graph.writes(name)
    )


def _on_this_side(graph: Graph, first: Iterable[str]) -> set[str]:
    """What hangs on one side alone, writers that the outputs don't wait for among it; gradients
    hang on it too, and what they update isn't the side's doing.
    """
    return graph.view.descendants(
        first,
        stop=lambda name: (
            graph.view.op(name) in _MERGES
            or graph.writes(name)
            or graph.gradient_scope(name) is not None
        ),
    )


def is_training(graph: Graph, name: str) -> bool:
    """Whether a node draws random numbers or normalises by the batch."""
    if graph.view.op(name).startswith("FusedBatchNorm"):
        node = graph.view.nodes[name]
        return "is_training" not in node.attr or attribute(node, "is_training").b
    return graph.traits(name).random
