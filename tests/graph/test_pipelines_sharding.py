"""Every batch of a pipeline is served once, whatever the world size becomes in between."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.graph.inputs.pipeline import Files, Pipeline
from orchestrator.graph.inputs.sharding import part_of, shards_by_file
from orchestrator.graph.worker_pipelines import LiveQueue
from orchestrator.training.inputs.rank_share import Share, turns


def served(
    shards: int, rank: int, world_size: int, position: int, steps: int
) -> list[tuple[int, int]]:
    """(shard, number within it) of the batches that a rank's interleaved streams give, as
    TensorFlow runs them.
    """
    numbers, starts, stride = part_of(shards, rank, world_size, position)
    return [
        (numbers[step % len(numbers)], starts[step % len(numbers)] + step // len(numbers) * stride)
        for step in range(steps)
    ]


@pytest.mark.slow
@given(
    shards=st.integers(1, 12),
    segments=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 7)), min_size=1, max_size=5),
)
def test_parts_across_changes_of_the_world_size_cover_each_batch_once(
    shards: int, segments: list[tuple[int, int]]
) -> None:
    position = 0
    seen: Counter[tuple[int, int]] = Counter()
    for world_size, steps in segments:
        for rank in range(world_size):
            seen.update(served(shards, rank, world_size, position, steps))
        position += world_size * steps
    assert seen == Counter((batch % shards, batch // shards) for batch in range(position))


@given(
    shards=st.integers(1, 12),
    rank=st.integers(0, 8),
    steps=st.integers(1, 6),
    position=st.integers(0, 40),
)
def test_part_with_as_many_workers_as_shards_opens_one_stream(
    shards: int, rank: int, steps: int, position: int
) -> None:
    numbers, _, stride = part_of(shards, rank % shards, shards, position)
    assert len(numbers) == 1
    assert stride == 1


@given(
    batch_rows=st.integers(1, 5),
    segments=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=4),
)
def test_rows_of_a_queue_across_changes_of_the_world_size_are_kept_once(
    batch_rows: int, segments: list[tuple[int, int]]
) -> None:
    queue = LiveQueue("queue", "rows", "enqueue", "read", batch_rows, True)
    position, kept = 0, Counter[int]()
    for world_size, steps in segments:
        for rank in range(world_size):
            turn = turns(queue, Share(rank, world_size, position))
            mine = (row for row in range(10_000) if turn.mine(row))
            kept.update(next(mine) for _ in range(steps * batch_rows))
        position += world_size * steps
    assert kept == Counter(range(position * batch_rows))


def pipeline(*, files: tuple[Files, ...], endless: bool = True) -> Pipeline:
    return Pipeline("it", "iterator", "IteratorV2", (), ("next",), files=files, endless=endless)


FOUR = Files("TextLineDataset", "read", ("a", "b", "c", "d"), "constant")


@pytest.mark.parametrize(
    ("described", "largest", "shards"),
    [
        (pipeline(files=(FOUR,)), 4, 4),
        (pipeline(files=(FOUR,)), 1, 1),
        (pipeline(files=(FOUR,)), 5, 1),
        (pipeline(files=(FOUR,), endless=False), 2, 1),
        (pipeline(files=(FOUR, FOUR)), 2, 1),
        (pipeline(files=()), 2, 1),
        (pipeline(files=(Files("TextLineDataset", "read", ("*.csv",), "pattern"),)), 2, 1),
    ],
    ids=[
        "enough files",
        "one worker",
        "too few files",
        "it ends",
        "two readers",
        "no files",
        "a pattern",
    ],
)
def test_shards_by_file_only_where_every_worker_gets_a_file_for_ever(
    described: Pipeline, largest: int, shards: int
) -> None:
    assert shards_by_file(described, largest) == shards
