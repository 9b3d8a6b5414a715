"""How does each rank get its own rows out of queues and readers?

Rule: where one operation fills the batching queue with one row a run, every rank reads all rows in
the same order and keeps row i where i modulo the world size is its rank; the others are read and
dropped, without being decoded. A start at position p first drops the rows of the p batches before
it; a queue that shuffles loses what it held then, and gives as many other rows twice. Where several
operations fill the queue side by side, nobody knows the order: whole batches are kept and dropped
instead, and two ranks may see the same rows.
"""

from __future__ import annotations

from orchestrator.graph.graphdef.constants import constant_integer
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.inputs.ordering import chance_free_seed
from orchestrator.graph.inputs.pipeline import Pipeline
from orchestrator.graph.worker_pipelines import LiveQueue

ONE_ROW = frozenset({"QueueEnqueue", "QueueEnqueueV2"})
"""They put one row in a run; their sisters put as many as a tensor has, which can't be counted here.
"""
ONE_RECORD = frozenset({"ReaderRead", "ReaderReadV2", "QueueDequeue", "QueueDequeueV2"})
"""They read one record in a run: what is read and dropped is then exactly a row."""


def share_queue(editor: Editor, graph: Graph, pipeline: Pipeline, seed: int) -> LiveQueue:
    """How the rows of a live queue are shared out; shuffles without a seed get the run's, in the
    editor's graph.
    """
    for name in pipeline.unseeded:
        if name in editor and "seed" in editor.node(name).attr:
            editor.node(name).attr["seed"].i = seed
            editor.node(name).attr["seed2"].i = chance_free_seed(name)
    # The starters fill the queues behind this one too
    own = [name for name in pipeline.starters if graph.view.data[name][0].node == pipeline.name]
    readers = [
        name
        for name in graph.view.ancestors(own, stop=lambda name: bool(graph.traits(name).source))
        if graph.traits(name).source
    ]
    by_row = (
        len(own) == 1
        and len(readers) == 1
        and graph.view.op(own[0]) in ONE_ROW
        and graph.view.op(readers[0]) in ONE_RECORD
    )
    ordered = not any(
        graph.view.op(queue).startswith("RandomShuffleQueue") for queue in pipeline.inner_queues
    )
    rows = batch_rows(graph, pipeline)
    if by_row and rows is not None:
        return LiveQueue(pipeline.name, "rows", own[0], readers[0], rows, ordered, pipeline.takers)
    # That no two ranks keep the same rows can be promised only where all see the same batches: with
    # one filler, one reader, and a queue that hands on in order
    alone = len(own) == 1 and pipeline.op.startswith(("FIFOQueue", "PaddingFIFOQueue"))
    return LiveQueue(
        pipeline.name,
        "batches",
        own[0] if own else "",
        "",
        rows or 0,
        promise=alone and ordered and len(readers) <= 1,
    )


def batch_rows(graph: Graph, pipeline: Pipeline) -> int | None:
    """How many rows of a queue make a batch; None where that isn't a constant, or where several
    operations take from it.
    """
    if len(pipeline.takers) != 1:
        return None
    taker = pipeline.takers[0]
    if "Many" not in graph.view.op(taker) and "UpTo" not in graph.view.op(taker):
        return 1
    return (
        constant_integer(graph.view, graph.view.data[taker][1])
        if len(graph.view.data[taker]) > 1
        else None
    )
