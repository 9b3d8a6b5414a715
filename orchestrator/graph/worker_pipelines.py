"""Which pipelines of a graph run in the worker, and which Python do they call?

Rule: a part of ``worker_graph``: plain data that pickles; no protos, no TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LivePipeline:
    """A dataset pipeline that runs in the worker, each rank with its own part of the batches; see
    ``inputs.sharding``.

    Attributes:
        name: the iterator's node.
        starter: the operation that starts it anew at what is fed.
        shards: into how many streams its files are split; 1 where every rank reads them all.
        shard_feed, start_feed: int64 ``[streams]``: which streams the rank opens, and from which
            batch on.
        stride_feed: int64 scalar: every how many batches of a stream are the rank's.
    """

    name: str
    starter: str
    shards: int
    shard_feed: str
    start_feed: str
    stride_feed: str


@dataclass(frozen=True)
class LiveQueue:
    """A queue pipeline that runs in the worker, each rank with its own part of the rows; see
    ``inputs.queues``.

    Attributes:
        name: the queue's node.
        unit: what is shared out: ``rows`` as they are read, or whole ``batches`` where rows can't
            be told apart.
        enqueue: the operation that puts one row into the queue.
        read: the operation whose run takes one row and drops it; empty for ``batches``.
        batch_rows: rows in a batch.
        promise: the ranks' parts don't overlap.
        takers: the operations that take a batch out of it.
    """

    name: str
    unit: Literal["rows", "batches"]
    enqueue: str
    read: str
    batch_rows: int
    promise: bool
    takers: tuple[str, ...] = ()


@dataclass(frozen=True)
class PythonFunction:
    """A ``py_func`` of the graph.

    Attributes:
        token: under which TensorFlow looks for its Python function.
        role: ``function``, or which of the three callbacks of ``Dataset.from_generator``.
        gives: the dtypes that it returns.
        eager: it's given and gives TensorFlow's eager tensors.
        generator: for the three callbacks, the token of the one that gives the elements.
    """

    token: str
    role: Literal["function", "generator-start", "generator-next", "generator-end"]
    gives: tuple[str, ...]
    eager: bool = False
    generator: str = ""
