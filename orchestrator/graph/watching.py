"""What can be shown of a step without computing more than the step does?

Rule: a tensor is shown only where it needs no input and no state change that the train targets don't need anyway.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.graph.constants import constant_strings
from orchestrator.graph.inputs import PLACEHOLDERS, find_tensor
from orchestrator.graph.nodes import Graph
from orchestrator.graph.tensors import FLOATS
from orchestrator.graph.view import Edge, parse_tensor

LOSSES = "losses"


def losses(graph: Graph, targets: Iterable[str], watch: Iterable[str]) -> tuple[str, ...]:
    """The tensors to show as losses: those asked for, else the losses collection's."""
    targets = tuple(targets)
    asked = [edge.tensor for text in watch if (edge := find_tensor(graph, text)) is not None]
    if asked or LOSSES not in graph.meta.collection_def:
        return tuple(asked)
    listed = dict.fromkeys(parse_tensor(name) for name in graph.meta.collection_def[LOSSES].node_list.value)
    closure = graph.view.ancestors(targets)
    return tuple(edge.tensor for edge in listed if edge.node in graph.view and adds_nothing(graph, edge, closure))


def scalar_summaries(graph: Graph, targets: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(tag, tensor) of the scalar summaries that the step can show."""
    closure = graph.view.ancestors(targets)
    found: dict[str, str] = {}
    for name, op in graph.view.ops.items():
        if op != "ScalarSummary" or len(graph.view.data[name]) != 2:
            continue
        tags = constant_strings(graph.view, graph.view.data[name][0])
        value = graph.view.data[name][1]
        if tags and len(tags) == 1 and value.node in graph.view and adds_nothing(graph, value, closure):
            found.setdefault(tags[0], value.tensor)
    return tuple(found.items())


def adds_nothing(graph: Graph, edge: Edge, closure: set[str]) -> bool:
    """Whether fetching ``edge`` with the targets needs no further input, no write and no draw."""
    if graph.dtype(edge) not in FLOATS:
        return False
    above = graph.view.ancestors([edge.node], stop=lambda name: name in closure) - closure
    return not any(graph.view.op(name) in PLACEHOLDERS or graph.writes(name) or graph.draws_from_outside(name) for name in above)
