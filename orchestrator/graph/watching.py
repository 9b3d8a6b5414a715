"""What can be shown of a step without computing more than the step does?

Rule: a tensor is shown only where it needs no input and no state change that the train targets
don't need anyway. One that was asked for may change what it likes, but an input that nobody gives
stops every step: it's left out, and said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from orchestrator.graph.graphdef.constants import constant_strings
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import FLOATS
from orchestrator.graph.graphdef.view import Edge, parse_tensor
from orchestrator.graph.inputs.ports import PLACEHOLDERS, find_tensor
from orchestrator.graph.problem import Problem

LOSSES = "losses"
DEMANDING = PLACEHOLDERS - {"PlaceholderWithDefault"}
"""Without a value they stop the step."""


def losses(
    graph: Graph, targets: Iterable[str], watch: Iterable[str], given: Collection[str] = ()
) -> tuple[str, ...]:
    """The tensors to show as losses: those asked for that can be computed, else the losses
    collection's.

    Args:
        given: tensors that are fed although the targets don't need them.
    """
    targets = tuple(targets)
    edges = [edge for text in watch if (edge := find_tensor(graph, text)) is not None]
    asked = [edge.tensor for edge in edges if not _lacking(graph, edge, targets, given)]
    if asked or LOSSES not in graph.meta.collection_def:
        return tuple(asked)
    listed = dict.fromkeys(
        parse_tensor(name) for name in graph.meta.collection_def[LOSSES].node_list.value
    )
    closure = graph.view.ancestors(targets)
    return tuple(
        edge.tensor
        for edge in listed
        if edge.node in graph.view and adds_nothing(graph, edge, closure)
    )


def unwatchable(
    graph: Graph, targets: Iterable[str], watch: Iterable[str], given: Collection[str] = ()
) -> Iterator[Problem]:
    """A warning for each tensor that was asked for and can't be computed; arguments as for
    ``losses``.
    """
    targets = tuple(targets)
    for text in watch:
        edge = find_tensor(graph, text)
        lacking = [] if edge is None else _lacking(graph, edge, targets, given)
        if lacking:
            said = f"{text} isn't shown: it needs {', '.join(lacking)}, which training doesn't need"
            yield Problem(
                "unwatchable",
                "warning",
                said,
                f"Give it as well, such as --feed {lacking[0]}=VALUE",
                (text, *lacking),
            )


def weight_of(graph: Graph, weight_by: str | None) -> str | None:
    """The tensor that weights batches; None where none was named, or none of that name is there."""
    edge = None if weight_by is None else find_tensor(graph, weight_by)
    return None if edge is None else edge.tensor


def unweighable(
    graph: Graph, targets: Iterable[str], weight_by: str | None, given: Collection[str] = ()
) -> Iterator[Problem]:
    """An error for a weight that can't be computed; arguments as for ``losses``."""
    edge = None if weight_by is None else find_tensor(graph, weight_by)
    lacking = [] if edge is None else _lacking(graph, edge, tuple(targets), given)
    if lacking:
        said = f"--weight-by {weight_by} needs {', '.join(lacking)}, which training doesn't need"
        yield Problem(
            "unweighable",
            "error",
            said,
            f"Give it as well, such as --feed {lacking[0]}=VALUE",
            (str(weight_by), *lacking),
            modes=("group",),
        )


def _lacking(
    graph: Graph, edge: Edge, targets: tuple[str, ...], given: Collection[str]
) -> list[str]:
    """The placeholders that ``edge`` needs, the targets don't, and nobody gives."""
    closure = graph.view.ancestors(targets)
    above = graph.view.ancestors([edge.node], stop=lambda name: name in closure) - closure
    needed = [
        name for name in graph.view.nodes if name in above and graph.view.op(name) in DEMANDING
    ]
    return [f"{name}:0" for name in needed if not {name, f"{name}:0"} & set(given)]


def scalar_summaries(graph: Graph, targets: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(tag, tensor) of the scalar summaries that the step can show."""
    closure = graph.view.ancestors(targets)
    found: dict[str, str] = {}
    for name, op in graph.view.ops.items():
        if op != "ScalarSummary" or len(graph.view.data[name]) != 2:
            continue
        tags = constant_strings(graph.view, graph.view.data[name][0])
        value = graph.view.data[name][1]
        if (
            tags
            and len(tags) == 1
            and value.node in graph.view
            and adds_nothing(graph, value, closure)
        ):
            found.setdefault(tags[0], value.tensor)
    return tuple(found.items())


def adds_nothing(graph: Graph, edge: Edge, closure: set[str]) -> bool:
    """Whether fetching ``edge`` with the targets needs no further input, no write and no draw."""
    if graph.dtype(edge) not in FLOATS:
        return False
    above = graph.view.ancestors([edge.node], stop=lambda name: name in closure) - closure
    return not any(
        graph.view.op(name) in PLACEHOLDERS or graph.writes(name) or graph.draws_from_outside(name)
        for name in above
    )
