"""Which nodes of a graph does a run execute?

Rule: what the worker asks a session for, and all that this needs. Everything else in the graph
(savers, summaries, other losses) is there and never runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.view import GraphView, parse_tensor
from orchestrator.graph.worker_graph import WorkerGraph


def executed_nodes(meta: MetaGraphDef, graph: WorkerGraph) -> frozenset[str]:
    """The nodes of ``meta`` (``graph.graphdef.meta``, parsed) that training with ``graph`` runs."""
    view = GraphView(meta.graph_def)
    fed = {parse_tensor(port.tensor).node for port in graph.inputs}
    return frozenset(view.ancestors(_fetched(graph), stop=lambda name: name in fed))


def _fetched(graph: WorkerGraph) -> Iterator[str]:
    yield from (target.op for target in graph.targets)
    yield from (parse_tensor(name).node for name in graph.losses)
    yield from (parse_tensor(tensor).node for _, tensor in graph.scalar_summaries)
    yield from (parse_tensor(port.pull).node for port in graph.inputs if port.pull)
    yield from (*graph.table_initializers, *graph.local_initializers, *graph.pipeline_initializers)
    yield from (pipeline.starter for pipeline in graph.pipelines)
    for _, enqueue, close, cancel in graph.queue_runners:
        yield from (*enqueue, close, cancel)
    yield from (pipeline.starter for pipeline in graph.pipelines)
    for shared in graph.queues:
        yield from (shared.enqueue, shared.read, *shared.takers)
    yield from (parse_tensor(entry.save_tensor).node for entry in graph.saver_entries)
    lacking = [
        variable for variable in graph.variables if variable.key is None and variable.initializer
    ]
    yield from (str(variable.initializer) for variable in lacking)


def likely_executed_nodes(meta: MetaGraphDef, ops: OpSet) -> frozenset[str]:
    """The same where no plan could be made: what the train_op collection needs, or all but what
    only savers need.
    """
    view = GraphView(meta.graph_def)
    named = (
        [parse_tensor(name).node for name in meta.collection_def["train_op"].node_list.value]
        if _has_train_op(meta)
        else []
    )
    starts = [name for name in named if name in view]
    if starts:
        return frozenset(view.ancestors(starts))
    saving = {
        name
        for name, op in view.ops.items()
        if op.startswith(("Save", "Restore", "MergeV2Checkpoints", "ShardedFile"))
    }
    return frozenset(name for name in view.nodes if name not in saving)


def _has_train_op(meta: MetaGraphDef) -> bool:
    return (
        "train_op" in meta.collection_def
        and meta.collection_def["train_op"].WhichOneof("kind") == "node_list"
    )
