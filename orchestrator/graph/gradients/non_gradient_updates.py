"""Which writers get values that differ between ranks without being gradients?

Rule: moving averages, metrics, learning rates from a batch. Their values are averaged too, at the
last place before any writer, loop or conditional; counts pass through float64 and are rounded. What
can't be averaged (a row number, a condition, a text) keeps the graph on one worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.graph.gradients.rank_local import RankLocal
from orchestrator.graph.gradients.training_writers import ASSIGNMENTS
from orchestrator.graph.graphdef.flow import Flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import COMPLEX, FLOATS, INTEGERS
from orchestrator.graph.graphdef.view import Edge, Use


@dataclass(frozen=True)
class UpdateCuts:
    """Tensors to average, each with the inputs that want the mean, or why that can't be done."""

    uses: dict[Edge, list[Use]] = field(default_factory=dict)
    refused: str = ""


def update_cuts(
    graph: Graph, closure: set[str], local: RankLocal, flow: Flow, sewn: frozenset[Use]
) -> UpdateCuts:
    """Where to average the values that ``local.writes`` lists.

    Args:
        flow: the loops and conditionals around each node.
        sewn: inputs that get an equal value from a gradient's seam.
    """
    writers = [name for name in closure if graph.writes(name)]
    late = graph.view.descendants(writers, within=closure)
    found = UpdateCuts()
    seen = set(sewn)
    waiting = [(edge, use, use.node) for edge, use in local.writes]
    while waiting:
        edge, use, writer = waiting.pop()
        if use in seen:
            continue
        seen.add(use)
        if edge.port < 0:
            return UpdateCuts(
                refused=_differs(graph, writer, f"whether it runs depends on {edge.node}")
            )
        if flow.once(edge.node) and edge.node not in late:
            if not _can_average(graph, edge, use):
                return UpdateCuts(
                    refused=_differs(
                        graph, writer, f"{edge.tensor} is {graph.dtype(edge) or 'of unknown type'}"
                    )
                )
            found.uses.setdefault(edge, []).append(use)
            continue
        above = [
            (source, Use(edge.node, slot, source.port), writer)
            for slot, source in enumerate(graph.view.data[edge.node])
            if source.node in local.nodes and not graph.writes(source.node)
        ]
        if not above:
            return UpdateCuts(
                refused=_differs(
                    graph,
                    writer,
                    f"{edge.node} stands in a loop, a conditional or behind another writer",
                )
            )
        waiting.extend(above)
    return found


def _can_average(graph: Graph, edge: Edge, use: Use) -> bool:
    dtype = graph.dtype(edge)
    if dtype in FLOATS | COMPLEX:
        return True
    return dtype in INTEGERS and use.slot == 1 and graph.view.op(use.node) in ASSIGNMENTS


def _differs(graph: Graph, writer: str, why: str) -> str:
    variable = graph.variable_of(writer) or "state"
    return f"{writer} writes {variable} from values that differ between workers and can't be averaged: {why}"
