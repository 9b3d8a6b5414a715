"""Which operations of this graph would train it?

Rule: from what updates trainable variables from gradients downstream to the sinks that also move
averages and count the step. The ``train_op`` collection says which updates the author meant, not
which operation to run. Which of the candidates is run is ``train_ops``' question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.graph.gradients.training_writers import (
    feeds_into,
)
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import parse_tensor

COLLECTION = "train_op"


SINK_ORDER = ("NoOp", "AssignAdd", "AssignAddVariableOp", "Identity", "Assign", "AssignVariableOp")
"""Which of two sinks that cover the same updates is the author's train op: a group, then the step's
count, then slim's loss.
"""


@dataclass(frozen=True)
class TrainOp:
    """An operation that trains.

    Attributes:
        op: its name.
        kind: its operation type.
        updates: trainable variables that it updates from gradients, in the graph's order.
        optimizers: operation types of those updates.
        also_writes: other variables that it writes (moving averages, the step).
        in_collection: whether an entry of the ``train_op`` collection is among its ancestors.
    """

    op: str
    kind: str
    updates: tuple[str, ...]
    optimizers: tuple[str, ...]
    also_writes: tuple[str, ...] = ()
    in_collection: bool = False


def find_candidates(graph: Graph, updates: Sequence[str]) -> tuple[TrainOp, ...]:
    """All sinks that train by one of ``updates``, those of the ``train_op`` collection first, then
    by how much each updates.
    """
    downstream = graph.view.descendants(updates) - _summaries(graph)
    covered = _covered(graph, downstream)
    sinks = [
        name
        for name in graph.view.nodes
        if name in downstream and not feeds_into(graph, name, downstream)
    ]
    listed = _mask(graph, train_op_collection(graph), covered)
    numbers = sorted(_writing(graph, downstream))
    # Of sinks that run the same writers one is the author's; a sink whose writers another one runs
    # too is a part of that one
    best: dict[int, str] = {}
    for name in sinks:
        mask = covered[name]
        if mask not in best or _rank(graph, name) <= _rank(graph, best[mask]):
            best[mask] = name
    kept = [
        (mask, name)
        for mask, name in best.items()
        if not any(mask != other and mask & other == mask for other in best)
    ]
    found = [
        _describe(graph, name, mask, numbers, set(updates), bool(mask & listed))
        for mask, name in kept
    ]
    return tuple(sorted(found, key=lambda one: (not one.in_collection, -len(one.updates))))


def train_op_collection(graph: Graph) -> list[str]:
    """Nodes of the ``train_op`` collection, duplicates removed, in order."""
    names = (
        graph.meta.collection_def[COLLECTION].node_list.value
        if COLLECTION in graph.meta.collection_def
        else ()
    )
    nodes = dict.fromkeys(parse_tensor(name).node for name in names)
    return [name for name in nodes if name in graph.view]


def _summaries(graph: Graph) -> set[str]:
    return {
        name for name, op in graph.view.ops.items() if "Summary" in op or op in ("Print", "PrintV2")
    }


def _writing(graph: Graph, names: set[str]) -> set[str]:
    return {name for name in names if graph.writes(name)}


def _covered(graph: Graph, downstream: set[str]) -> dict[str, int]:
    """For each node downstream of an update, the writers among its ancestors there, as bits in the
    order of their names.
    """
    bits = {name: 1 << number for number, name in enumerate(sorted(_writing(graph, downstream)))}
    masks: dict[str, int] = {}
    for name in graph.view.order()[0]:
        if name in downstream:
            mask = bits.get(name, 0)
            for edge in graph.view.data[name]:
                mask |= masks.get(edge.node, 0)
            for source in graph.view.controls[name]:
                mask |= masks.get(source, 0)
            masks[name] = mask
    return {name: masks.get(name, 0) for name in downstream}


def _mask(graph: Graph, entries: Iterable[str], covered: Mapping[str, int]) -> int:
    mask = 0
    for name in entries:
        mask |= covered.get(name, 0)
    return mask


def _rank(graph: Graph, name: str) -> int:
    op = graph.view.op(name)
    return SINK_ORDER.index(op) if op in SINK_ORDER else len(SINK_ORDER)


def _describe(
    graph: Graph, name: str, mask: int, numbers: Iterable[str], updates: set[str], listed: bool
) -> TrainOp:
    writers = [
        writer for writer, bit in zip(numbers, reversed(f"{mask:b}"), strict=False) if bit == "1"
    ]
    trained = variables_written(graph, (writer for writer in writers if writer in updates))
    every = sorted(graph.writers(graph.view.ancestors([name])))
    known = set(trained)
    others = [variable for variable in variables_written(graph, every) if variable not in known]
    optimizers = dict.fromkeys(graph.view.op(writer) for writer in writers if writer in updates)
    return TrainOp(
        name, graph.view.op(name), tuple(trained), tuple(optimizers), tuple(others), listed
    )


def variables_written(graph: Graph, writers: Iterable[str]) -> list[str]:
    """Names of the variables that these operations write, each once, in the operations' order."""
    return list(
        dict.fromkeys(variable for writer in writers for variable in graph.written_by(writer))
    )
