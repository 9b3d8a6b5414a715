"""Which batches do the end-to-end runs train on? Input functions as users would write them, by the
documented contract.

Rule: batch number ``i`` of the run is a function of ``i`` alone, so that any split over ranks can
be compared with one process.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tests.graphs import feeds

Batch = Mapping[str, np.ndarray]
OFFSET = 10_000  # other batches than those of the source run


def batch(kind: str, number: int) -> Batch:
    """Batch ``number`` of the whole run."""
    return feeds.feeds_for(kind)(OFFSET + number)


def joined(kind: str, step: int, workers: int) -> Batch:
    """What one process has to be fed in ``step`` to see what ``workers`` workers see."""
    parts = [batch(kind, step * workers + rank) for rank in range(workers)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _serve(kind: str) -> Callable[[Any], Iterator[Batch]]:
    def batches(ctx: Any) -> Iterator[Batch]:
        number = ctx.position + ctx.rank
        end = int(os.environ.get("TEST_INPUT_END", "1000000"))
        while number < end:
            yield batch(kind, number)
            number += ctx.world_size

    return batches


mlp = _serve("mlp")
embedding = _serve("embedding")
conv_bn = _serve("conv_bn")
lstm = _serve("lstm")


def mlp_by_tensorflow(ctx: Any) -> Iterator[Batch]:
    """The same batches out of eager TensorFlow, as many input functions make them: with the whole
    package, not the worker's parts of it.
    """
    import tensorflow as tf

    numbers = tf.data.Dataset.range(ctx.position + ctx.rank, 1_000_000, ctx.world_size)
    for number in numbers.map(lambda each: each + tf.constant(0, tf.int64)).as_numpy_iterator():
        assert tf.keras.backend.epsilon() > 0
        yield batch("mlp", int(number))


def logged(ctx: Any) -> Iterator[Batch]:
    """Writes down the step that each batch is asked for."""
    with open(os.environ["TEST_STEP_LOG"], "a", buffering=1) as log:
        for number, step in zip(
            itertools.count(ctx.position + ctx.rank, ctx.world_size),
            itertools.count(ctx.step),
            strict=False,
        ):
            log.write(f"{step}\n")
            yield batch("mlp", number)


def many_rows(ctx: Any) -> Iterator[Batch]:
    """Two thousand rows of twenty ids: each id is added to a hundred times in one step."""
    for number in range(ctx.position + ctx.rank, 1000, ctx.world_size):
        yield feeds.id_feeds(number, 2048)


def grown(ctx: Any) -> Iterator[Batch]:
    """Ids of a table that has grown from 20 to 30 rows."""
    for number in range(ctx.position + ctx.rank, 1000, ctx.world_size):
        rows = feeds.id_feeds(number, 8)
        yield {**rows, "ids:0": (rows["ids:0"] + 3 * number) % 30}


def ends_at_seven(ctx: Any) -> Iterator[Batch]:
    """Seven batches in all: with two ranks three whole steps, then one rank has data and the other
    none.
    """
    for number in range(ctx.position + ctx.rank, 7, ctx.world_size):
        yield batch("mlp", number)


def raises_at_three(ctx: Any) -> Iterator[Batch]:
    """User code with a bug that shows in its third batch."""
    for count, number in enumerate(range(ctx.position + ctx.rank, 1000, ctx.world_size)):
        if count == 2:
            raise ValueError("the shelf of batch three is empty")
        yield batch("mlp", number)


def wrong_shape(ctx: Any) -> Iterator[Batch]:
    """Seven features where the graph has six."""
    while True:
        yield {"x:0": np.zeros((4, 7), np.float32), "y:0": np.zeros(4, np.int64)}
