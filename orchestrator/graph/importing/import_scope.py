"""How does a graph look that is imported under a name scope?

Rule: as ``import_meta_graph(import_scope=...)`` makes it: every node, colocation, collection entry
and saver name gets the prefix; what tfresume added keeps its own. Checkpoint keys and resource
names stay, since they name what is outside of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.variable_pb2 import VariableDef

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.collection_protos import QueueRunnerDef
from orchestrator.graph.graphdef.edit import OWN
from orchestrator.graph.importing.dangling import VARIABLE_COLLECTIONS
from orchestrator.graph.worker_graph import InputPort, WorkerGraph

COLOCATED = "loc:@"
UNREADABLE_SCOPED = frozenset({"cond_context", "while_context", "savers"})
"""Collections that say how Python made the graph; training needs none of them, and they're full of
names.
"""

KEPT = frozenset(
    {
        "dtype",
        "key",
        "slice_spec",
        "kind",
        "why",
        "role",
        "origin",
        "unit",
        "token",
        "gives",
        "generator",
        "index_dtype",
    }
)
"""Fields of a worker graph's parts that hold no node's name."""

Part = TypeVar("Part")


def without_scope(config: RunConfig) -> RunConfig:
    """``config`` with the import scope taken off the names that it gives: inside the plan, names
    are the source's.
    """
    scope = config.import_scope
    if not scope:
        return config
    bare = _Bare(scope)
    return config.model_copy(
        update={
            "feed": {bare(name): value for name, value in config.feed.items()},
            "array": {bare(name): value for name, value in config.array.items()},
            "input_map": {bare(name): key for name, key in config.input_map.items()},
            "watch": [bare(name) for name in config.watch],
            "weight_by": None if config.weight_by is None else bare(config.weight_by),
            "train_op": [bare(name) for name in config.train_op],
            "set": {bare(name): value for name, value in config.set.items()},
            "freeze": [bare(name) for name in config.freeze],
            "grow": {bare(name): rows for name, rows in config.grow.items()},
            "reinit": [bare(name) for name in config.reinit],
            "restore_only": [bare(name) for name in config.restore_only],
        }
    )


class _Bare:
    def __init__(self, scope: str) -> None:
        self._prefix = f"{scope.rstrip('/')}/"

    def __call__(self, name: str) -> str:
        return name.removeprefix(self._prefix)


def in_scope(graph: WorkerGraph, config: RunConfig) -> WorkerGraph:
    """``graph`` as imported under the configuration's scope; ``graph`` itself without one.

    Inputs that the configuration names keep the name it gives them.
    """
    if not config.import_scope:
        return graph
    rename = _renamer(config.import_scope)
    given = {name if ":" in name else f"{name}:0": name for name in (*config.feed, *config.array)}
    meta = MetaGraphDef.FromString(graph.meta)
    rename_meta(meta, rename)
    return replace(
        graph,
        meta=meta.SerializeToString(),
        inputs=tuple(_input(port, rename, given) for port in graph.inputs),
        scalar_summaries=tuple((tag, rename(tensor)) for tag, tensor in graph.scalar_summaries),
        targets=_renamed(graph.targets, rename),
        variables=_renamed(graph.variables, rename),
        saver_entries=_renamed(graph.saver_entries, rename),
        step=_renamed(graph.step, rename),
        losses=_renamed(graph.losses, rename),
        weight=None if graph.weight is None else rename(graph.weight),
        pipelines=_renamed(graph.pipelines, rename),
        queues=_renamed(graph.queues, rename),
        queue_runners=_renamed(graph.queue_runners, rename),
        table_initializers=_renamed(graph.table_initializers, rename),
        local_initializers=_renamed(graph.local_initializers, rename),
        pipeline_initializers=_renamed(graph.pipeline_initializers, rename),
        random_nodes=_renamed(graph.random_nodes, rename),
        stateful_random=_renamed(graph.stateful_random, rename),
        loading=replace(
            graph.loading,
            anew=frozenset(map(rename, graph.loading.anew)),
            grown=frozenset(map(rename, graph.loading.grown)),
        ),
    )


def _renamer(scope: str) -> Callable[[str], str]:
    prefix = f"{scope.rstrip('/')}/"

    def rename(name: str) -> str:
        if not name or name.startswith(OWN):
            return name
        return f"^{prefix}{name[1:]}" if name.startswith("^") else prefix + name

    return rename


def _input(port: InputPort, rename: Callable[[str], str], given: dict[str, str]) -> InputPort:
    scoped = rename(port.name)
    name = (
        port.name
        if port.origin == "input_map" or (port.name in given and scoped not in given)
        else scoped
    )
    pull = rename(port.pull) if port.pull else None
    return replace(port, tensor=rename(port.tensor), name=name, pull=pull)


def _renamed(value: Part, rename: Callable[[str], str]) -> Part:
    """A part of the worker graph with all names in it renamed, at any depth."""
    if isinstance(value, str):
        return rename(value)  # type: ignore[return-value]
    if isinstance(value, tuple):
        return tuple(_renamed(item, rename) for item in value)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            item.name: _renamed(getattr(value, item.name), rename)
            for item in fields(value)
            if item.name not in KEPT
        }
        return replace(value, **changed)
    return value


def rename_meta(meta: MetaGraphDef, rename: Callable[[str], str]) -> None:
    """Rename all nodes of ``meta`` in place, wherever they're named."""
    for node in meta.graph_def.node:
        _rename_node(node, rename)
    for key in list(meta.collection_def):
        if key in UNREADABLE_SCOPED:
            del meta.collection_def[key]
        else:
            _rename_collection(meta, key, rename)
    saver = meta.saver_def
    for field in ("filename_tensor_name", "save_tensor_name", "restore_op_name"):
        if getattr(saver, field):
            setattr(saver, field, rename(getattr(saver, field)))


def _rename_node(node: NodeDef, rename: Callable[[str], str]) -> None:
    node.name = rename(node.name)
    inputs = [
        rename(text.removeprefix("^")) if not text.startswith("^") else f"^{rename(text[1:])}"
        for text in node.input
    ]
    del node.input[:]
    node.input.extend(inputs)
    if "_class" in node.attr:
        said = [
            _colocation(one.decode("utf-8", "replace"), rename).encode()
            for one in node.attr["_class"].list.s
        ]
        del node.attr["_class"].list.s[:]
        node.attr["_class"].list.s.extend(said)


def _colocation(text: str, rename: Callable[[str], str]) -> str:
    return COLOCATED + rename(text.removeprefix(COLOCATED)) if text.startswith(COLOCATED) else text


def _rename_collection(meta: MetaGraphDef, key: str, rename: Callable[[str], str]) -> None:
    collection = meta.collection_def[key]
    kind = collection.WhichOneof("kind")
    if kind == "node_list":
        _replace(collection.node_list.value, (rename(name) for name in collection.node_list.value))
    elif kind == "bytes_list" and key in VARIABLE_COLLECTIONS:
        _replace(
            collection.bytes_list.value,
            [_variable(value, rename) for value in collection.bytes_list.value],
        )
    elif kind == "bytes_list" and key == "queue_runners":
        _replace(
            collection.bytes_list.value,
            [_runner(value, rename) for value in collection.bytes_list.value],
        )


def _replace(values: object, new: Iterable[object]) -> None:
    kept = list(new)
    del values[:]  # type: ignore[attr-defined]
    values.extend(kept)  # type: ignore[attr-defined]


def _variable(value: bytes, rename: Callable[[str], str]) -> bytes:
    try:
        variable = VariableDef.FromString(value)
    except DecodeError:
        return value
    for field in ("variable_name", "initializer_name", "snapshot_name", "initial_value_name"):
        if getattr(variable, field):
            setattr(variable, field, rename(getattr(variable, field)))
    return bytes(variable.SerializeToString())


def _runner(value: bytes, rename: Callable[[str], str]) -> bytes:
    try:
        runner = QueueRunnerDef.FromString(value)
    except DecodeError:
        return value
    runner.queue_name = rename(runner.queue_name)
    runner.close_op_name, runner.cancel_op_name = (
        rename(runner.close_op_name),
        rename(runner.cancel_op_name),
    )
    _replace(runner.enqueue_op_name, [rename(name) for name in runner.enqueue_op_name])
    return bytes(runner.SerializeToString())
