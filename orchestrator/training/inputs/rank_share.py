"""Which part of the graph's own batches is this rank's?

Rule: as with an input function: rank r of W at position p gets the batches p + r, p + W + r, …. For
dataset pipelines TensorFlow's shard operations are told so when the iterator is started
(``graph.inputs.sharding``); of queues, rows or batches are dropped as they come
(``graph.inputs.queues``). Plain arithmetic; no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from orchestrator.graph.inputs.sharding import part_of
from orchestrator.graph.worker_pipelines import LivePipeline, LiveQueue


@dataclass(frozen=True)
class Share:
    """A rank's place in the group, and the batches that the whole group consumed before."""

    rank: int = 0
    world_size: int = 1
    position: int = 0


def start_feeds(pipelines: Iterable[LivePipeline], share: Share) -> dict[str, np.ndarray]:
    """What the starters of ``pipelines`` are fed for ``share``."""
    feeds: dict[str, np.ndarray] = {}
    for pipeline in pipelines:
        shards, starts, stride = part_of(
            pipeline.shards, share.rank, share.world_size, share.position
        )
        feeds[pipeline.shard_feed] = np.asarray(shards, np.int64)
        feeds[pipeline.start_feed] = np.asarray(starts, np.int64)
        feeds[pipeline.stride_feed] = np.asarray(stride, np.int64)
    return feeds


@dataclass(frozen=True)
class Turns:
    """Which of a sequence of rows or batches are a rank's.

    Attributes:
        before: how many at the beginning were consumed before, by anyone.
    """

    share: Share
    before: int

    def mine(self, number: int) -> bool:
        """Whether this rank keeps number ``number``, counted from 0 at the beginning of the
        pipeline.
        """
        return (
            number >= self.before
            and (number - self.before) % self.share.world_size == self.share.rank
        )


def turns(queue: LiveQueue, share: Share) -> Turns:
    """Whose turn it is in what ``queue`` shares out."""
    return Turns(share, share.position * (queue.batch_rows if queue.unit == "rows" else 1))
