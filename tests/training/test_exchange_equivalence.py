"""Do N workers with batch b train what one worker with batch N·b does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary
from tests.training.comparing import assert_close, assert_identical, changed
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks, worker_graph

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]

STEPS = 20
OPTIMIZERS = ("sgd", "momentum", "adam", "adagrad", "rmsprop")
CASES = [
    *[
        (kind, optimizer, clip, False)
        for kind in ("mlp", "embedding")
        for optimizer in OPTIMIZERS
        for clip in (False, True)
    ],
    ("mlp", "adam", True, True),
    ("embedding", "adam", True, True),
    ("embedding", "sgd", False, True),
]
"""Kind of graph, optimizer, clipped by global norm, resource variables."""


def batches_of(
    kind: str, ranks: int, steps: int = STEPS, first: int = 100
) -> list[list[Mapping[str, Any]]]:
    """Different data for every rank and step; the row counts of ``embedding`` differ too, zero
    included.
    """
    serve = feeds_for(kind)
    return [[serve(first + step * ranks + rank) for rank in range(ranks)] for step in range(steps)]


def train(ranks: Ranks, batches: Sequence[Sequence[Mapping[str, Any]]]) -> list[State]:
    """Every rank's state after these steps."""
    for batch in batches:
        ranks.step(batch)
    return ranks.states()


def train_alone(
    ranks: Ranks, graph: WorkerGraph, start: State, batches: Sequence[Sequence[Mapping[str, Any]]]
) -> State:
    """The first rank's state after the same steps alone, one batch a step, with the batches of all
    slots put together.
    """
    alone = Ranks(ranks.processes[:1])
    alone.load(graph, TrainingOptions())
    alone.form()
    alone.assign(start)
    for batch in batches:
        together = {key: np.concatenate([part[key] for part in batch]) for key in batch[0]}
        alone.step([together])
    return alone.states()[0]


@pytest.mark.parametrize(("kind", "optimizer", "clip", "resource"), CASES)
def test_group_of_n_with_batch_b_equals_one_with_batch_n_times_b(
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    kind: str,
    optimizer: str,
    clip: bool,
    resource: bool,
) -> None:
    world_size = 3 if clip else 2
    ranks = new_ranks(world_size)
    prefix = tf1_checkpoint(kind, optimizer=optimizer, clip=clip, resource=resource)
    start = ranks.start(prefix)
    batches = batches_of(kind, world_size)

    states = train(ranks, batches)

    for state in states[1:]:
        assert_identical(state, states[0])
    assert_close(states[0], train_alone(ranks, worker_graph(prefix), start, batches))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("kind", "options"), [("mlp", {"summed": True}), ("embedding", {})])
def test_summed_loss_of_two_slots_equals_one_process_with_both_batches_unless_the_mean_is_asked_for(
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    kind: str,
    options: Mapping[str, Any],
    workers: int,
) -> None:
    prefix = tf1_checkpoint(kind, optimizer="sgd", **options)
    batches = batches_of(kind, 2, steps=5)
    found: dict[str, State] = {}
    for scale in ("auto", "mean"):
        ranks = new_ranks(workers)
        shared = TrainingOptions(batches_per_step=2, gradient_scale=scale, deterministic=True)
        start = ranks.start(prefix, options=shared, workers=workers, batches_per_step=2)
        states = train(ranks, batches)
        for state in states[1:]:
            assert_identical(state, states[0])
        found[scale] = states[0]
    joint = train_alone(ranks, worker_graph(prefix), start, batches)
    assert_close(found["auto"], joint)
    with pytest.raises(AssertionError):
        assert_close(found["mean"], joint)


def test_rows_of_sparse_gradients_in_these_tests_differ_and_reach_zero() -> None:
    counts = {len(batch["ids:0"]) for group in batches_of("embedding", 3) for batch in group}
    assert 0 in counts
    assert len(counts) > 4


def test_sparse_exchange_two_hundred_steps_with_all_ranks_empty_at_times_stays_identical(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(2)
    ranks.start(tf1_checkpoint("embedding", optimizer="adam"))
    batches = batches_of("embedding", 2, steps=200)
    nothing = {key: value[:0] for key, value in batches[0][0].items()}
    for step in range(0, 200, 20):
        batches[step] = [nothing, nothing]
    first, second = train(ranks, batches)
    assert_identical(first, second)


@pytest.mark.parametrize("kind", ["conv_bn", "ema", "lstm", "dropout"])
def test_group_of_three_other_graphs_stay_identical_on_all_ranks(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, kind: str
) -> None:
    ranks = new_ranks(3)
    start = ranks.start(tf1_checkpoint(kind))
    states = train(ranks, batches_of(kind, 3))
    for state in states[1:]:
        assert_identical(state, states[0])
    assert {name for name, array in start.arrays.items() if array.size} == set(
        changed(start, states[0])
    )


def without_exchange(trainer: Any) -> None:
    """Give every rank its own values back, as if the exchange were the identity."""
    trainer._group._exchange = lambda mesh, run, number, level, mine, dealt: (
        own_values(level, mine),
        {},
    )


def own_values(level: Any, mine: Any) -> dict[str, Any]:
    values = {
        opening.feed: array for opening, array in zip(level.dense, mine.like.dense, strict=True)
    }
    for (rows, indices), (own_rows, own_indices) in zip(level.rows, mine.like.rows, strict=True):
        values |= {rows.feed: own_rows, indices.feed: own_indices}
    return values


@pytest.mark.parametrize("kind", ["mlp", "embedding"])
def test_group_whose_exchange_is_the_identity_is_noticed_by_these_tests(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, kind: str
) -> None:
    ranks = new_ranks(2)
    prefix = tf1_checkpoint(kind, optimizer="adam")
    start = ranks.start(prefix)
    ranks.each("apply", without_exchange)
    batches = batches_of(kind, 2)

    states = train(ranks, batches)

    with pytest.raises(AssertionError):
        assert_identical(states[1], states[0])
    with pytest.raises(AssertionError):
        assert_close(states[0], train_alone(ranks, worker_graph(prefix), start, batches))
