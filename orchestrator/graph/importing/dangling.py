"""Which names in a graph name nothing?

Rule: TensorFlow's import raises on a collection entry or a colocation constraint that names no
node, and says nothing of the others. Such an entry carries no information, so it is dropped and
reported. Inputs that name nothing are another matter (``wiring``): the graph has lost a part.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.meta_graph_pb2 import CollectionDef, MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.variable_pb2 import VariableDef

from orchestrator.graph.graphdef.collection_protos import (
    CondContextDef,
    QueueRunnerDef,
    WhileContextDef,
    names_in_context,
)

VARIABLE_COLLECTIONS = frozenset(
    {
        "variables",
        "trainable_variables",
        "moving_average_variables",
        "local_variables",
        "model_variables",
        "metric_variables",
        "global_step",
    }
)
"""Collections whose byte strings TensorFlow reads as VariableDef (``ops.register_proto_function``).
"""

COLOCATION = "_class"
COLOCATED_WITH = b"loc:@"


def drop_dangling_entries(meta: MetaGraphDef) -> list[str]:
    """Remove them from ``meta`` in place; each removal in words."""
    nodes = {node.name for node in meta.graph_def.node}
    done: list[str] = []
    for key, collection in meta.collection_def.items():
        lost = dict(_lost(key, collection, nodes))
        if not lost:
            continue
        values = getattr(collection, str(collection.WhichOneof("kind"))).value
        kept = [value for index, value in enumerate(values) if index not in lost]
        del values[:]
        values.extend(kept)
        done.extend(
            f"collection {key}: dropped the entry {said!r}, which names no node"
            for said in lost.values()
        )
    return done


def _lost(key: str, collection: CollectionDef, nodes: Collection[str]) -> Iterator[tuple[int, str]]:
    kind = collection.WhichOneof("kind")
    if kind == "node_list":
        for index, name in enumerate(collection.node_list.value):
            if _node_of(name) not in nodes:
                yield index, name
    elif kind == "bytes_list" and key in NAMES_IN:
        for index, value in enumerate(collection.bytes_list.value):
            names = NAMES_IN[key](value)
            missing = (
                None
                if names is None
                else next((name for name in names if _node_of(name) not in nodes), None)
            )
            if names is None:
                yield index, f"{len(value)} unreadable bytes"
            elif missing is not None:
                yield index, missing


def _node_of(name: str) -> str:
    return name.removeprefix("^").partition(":")[0]


def _variable_names(value: bytes) -> list[str] | None:
    try:
        variable = VariableDef.FromString(value)
    except DecodeError:
        return None
    names = [
        variable.variable_name,
        variable.initializer_name,
        variable.snapshot_name,
        variable.initial_value_name,
    ]
    return [variable.variable_name, *(name for name in names[1:] if name)]


def _queue_runner_names(value: bytes) -> list[str] | None:
    try:
        runner = QueueRunnerDef.FromString(value)
    except DecodeError:
        return None
    return [
        runner.queue_name,
        *runner.enqueue_op_name,
        *(name for name in (runner.close_op_name, runner.cancel_op_name) if name),
    ]


def _context_names(kind: Any, value: bytes) -> list[str] | None:
    try:
        return names_in_context(kind.FromString(value))
    except DecodeError:
        return None


NAMES_IN: dict[str, Callable[[bytes], list[str] | None]] = {
    **dict.fromkeys(VARIABLE_COLLECTIONS, _variable_names),
    "queue_runners": _queue_runner_names,
    "cond_context": partial(_context_names, CondContextDef),
    "while_context": partial(_context_names, WhileContextDef),
}
"""Collection name to a function that lists the node or tensor names in one of its byte strings,
None where it can't be read.
"""


def drop_lost_colocations(graph: GraphDef) -> list[str]:
    """Remove colocations with nodes that aren't there, and unreadable ones, from ``graph`` in
    place; each removal in words.
    """
    nodes = {node.name.encode() for node in graph.node}
    done: list[str] = []
    for node in graph.node:
        if COLOCATION in node.attr:
            done.extend(_drop_lost(node, nodes))
    return done


def _drop_lost(node: NodeDef, nodes: Collection[bytes]) -> Iterator[str]:
    value = node.attr[COLOCATION]
    if value.WhichOneof("value") != "list" or len(value.list.s) != sum(
        len(items) for _, items in value.list.ListFields()
    ):
        del node.attr[COLOCATION]
        yield f"node {node.name}: dropped a colocation that can't be read"
        return
    lost = [
        text
        for text in value.list.s
        if text.startswith(COLOCATED_WITH) and text.removeprefix(COLOCATED_WITH) not in nodes
    ]
    if not lost:
        return
    kept = [text for text in value.list.s if text not in lost]
    del value.list.s[:]
    value.list.s.extend(kept)
    if not kept:
        del node.attr[COLOCATION]
    for text in lost:
        name = text.removeprefix(COLOCATED_WITH).decode("utf-8", "replace")
        yield f"node {node.name}: dropped its colocation with {name!r}, which isn't in the graph"
