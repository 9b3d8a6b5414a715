"""Does everything that the operator supplies have a place in the graph?

Rule: a name in ``--feed`` or ``--array`` that no tensor of the graph and no key of ``--input-map``
has is a mistake, most likely a misspelling, so the nearest names are told; ``--watch`` and
``--weight-by`` likewise.
What an input function yields can't be known before it's called.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.view import GraphView, parse_tensor
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_graph import WorkerGraph

NEAR = 3
"""Names proposed for a misspelt one: more of them hide the right one."""
CANDIDATES = 20_000
"""Names that are compared with a misspelt one; placeholders come first."""


def supplied_problems(
    view: GraphView, config: RunConfig, graph: WorkerGraph | None
) -> Iterator[Problem]:
    """An error for each name that is supplied and that nothing takes.

    Args:
        view: the source's graph.
        graph: what would run, None where that couldn't be planned; its inputs have names too.
    """
    keys = (
        set(config.input_map.values()) | {port.name for port in graph.inputs}
        if graph
        else set(config.input_map.values())
    )
    prefix = f"{config.import_scope.rstrip('/')}/" if config.import_scope else ""
    for flag, names in (
        ("--feed", config.feed),
        ("--array", config.array),
        ("--watch", config.watch),
        ("--weight-by", [] if config.weight_by is None else [config.weight_by]),
    ):
        for name in names:
            node = parse_tensor(name).node
            if (
                name not in keys
                and f"{name}:0" not in keys
                and node not in view
                and node.removeprefix(prefix) not in view
            ):
                near = _near(node, view)
                remedy = (
                    f"Did you mean {', '.join(near)}?"
                    if near
                    else "`tfresume inspect` lists what can be fed"
                )
                yield Problem(
                    "unknown-tensor",
                    "error",
                    f"{flag} names {name}, which the graph doesn't have",
                    remedy,
                    (name,),
                )


def _near(name: str, view: GraphView) -> list[str]:
    placeholders = [node for node, op in view.ops.items() if op.startswith("Placeholder")]
    others = [node for node, op in view.ops.items() if not op.startswith("Placeholder")]
    found = get_close_matches(name, placeholders, NEAR) or get_close_matches(
        name, others[:CANDIDATES], NEAR
    )
    return [f"{node}:0" for node in found]
