"""How does bare TF1 code train a graph, original or rewritten? The baseline of the tests of this
room.

Rule: one thread, the graph's own saver, and nothing of ours but the names that a plan gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from orchestrator.graph.worker_graph import WorkerGraph

Batches = Callable[[int], Mapping[str, np.ndarray]]


def session_config(tf: Any) -> Any:
    """One thread, so that two runs of the same operations give the same bits."""
    return tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)


def train_original(
    meta: bytes, prefix: str, ops: Iterable[str], steps: int, batches: Batches
) -> dict[str, np.ndarray]:
    """The variables after ``steps`` runs of ``ops`` in the graph as it was saved."""
    return _train(meta, prefix, list(ops), steps, batches)


def train_rewritten(
    graph: WorkerGraph, prefix: str, steps: int, batches: Batches, rng: bool = False
) -> dict[str, np.ndarray]:
    """The same with a plan's graph; batches of live pipelines are pulled and fed."""
    feeds = {port.name: port.tensor for port in graph.inputs}
    pulls = {port.tensor: port.pull for port in graph.inputs if port.pull}

    def renamed(step: int) -> dict[str, np.ndarray]:
        found = {feeds.get(name, name): value for name, value in batches(step).items()}
        if graph.rng_feed:
            found[graph.rng_feed] = np.array([7, step], np.int64)
        return found

    ops = [target.op for target in graph.targets]
    return _train(graph.meta, prefix, ops, steps, renamed, pulls, graph)


def _train(
    meta: bytes,
    prefix: str,
    ops: list[str],
    steps: int,
    batches: Batches,
    pulls: Mapping[str, str] | None = None,
    described: WorkerGraph | None = None,
) -> dict[str, np.ndarray]:
    import tensorflow as tensorflow

    tf = tensorflow.compat.v1
    proto = tf.MetaGraphDef.FromString(meta)
    with (
        tf.Graph().as_default() as graph,
        tf.Session(graph=graph, config=session_config(tf)) as session,
    ):
        saver = tf.train.import_meta_graph(proto, clear_devices=True)
        _initialize(tf, session, graph, described)
        saver.restore(session, prefix)
        coordinator = tf.train.Coordinator()
        threads = tf.train.start_queue_runners(session, coordinator)
        for step in range(steps):
            feeds = dict(batches(step))
            if pulls:
                feeds.update(session.run(dict(pulls)))
            for op in ops:
                session.run(graph.get_operation_by_name(op), feeds)
        found = variables_of(tf, session)
        coordinator.request_stop()
        coordinator.join(threads, stop_grace_period_secs=10)
        return found


def _initialize(tf: Any, session: Any, graph: Any, described: WorkerGraph | None) -> None:
    if described is None:
        session.run([tf.local_variables_initializer(), tf.tables_initializer()])
        return
    for names in (
        described.local_initializers,
        described.table_initializers,
        described.pipeline_initializers,
    ):
        session.run([graph.get_operation_by_name(name) for name in names])
    for pipeline in described.pipelines:
        streams = np.arange(pipeline.shards, dtype=np.int64)
        parts = {
            pipeline.shard_feed: streams,
            pipeline.start_feed: np.zeros_like(streams),
            pipeline.stride_feed: np.int64(1),
        }
        session.run(graph.get_operation_by_name(pipeline.starter), parts)


def variables_of(tf: Any, session: Any) -> dict[str, np.ndarray]:
    """All variables of the session's graph, by node name."""
    variables = {
        variable.op.name: variable for variable in tf.global_variables() + tf.local_variables()
    }
    values: dict[str, np.ndarray] = session.run(variables)
    return values
