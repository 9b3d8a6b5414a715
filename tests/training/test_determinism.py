"""Is a deterministic run with recoveries bit by bit the undisturbed one, and do the settings that
it names matter?
"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import PeerLost
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State
from tests.graphs.feeds import feeds_for, xy_feeds
from tests.graphs.library import CheckpointLibrary
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks
from tests.training.ranks import RankProcess, Ranks, outcome_of, worker_graph

pytestmark = pytest.mark.tf

OPTIONS = TrainingOptions(batches_per_step=3, deterministic=True, seed=5)
STEPS = 12


def run(ranks: Ranks, start: State, kind: str, disturbed: set[int]) -> State:
    """The state after all steps; in a disturbed step one rank leaves while the others are in it,
    and the step is taken again.
    """
    serve = feeds_for(kind)
    ranks.form(position=0)
    ranks.assign(start)
    for step in range(STEPS):
        batches: list[Any] = [serve(300 + 3 * step + rank) for rank in range(3)]
        if step in disturbed:
            leaver = step % 3
            others = [rank for rank in range(3) if rank != leaver]
            for rank in others:
                ranks.processes[rank].send("step", ranks.dealt(batches)[rank])
            ranks.processes[leaver].control("abandon")
            for rank in others:
                assert isinstance(outcome_of(ranks.processes[rank].receive), PeerLost)
            ranks.form()
        ranks.step(batches)
    return ranks.states()[0]


@pytest.mark.parametrize("kind", ["conv_bn", "embedding", "dropout", "lstm"])
def test_run_with_recoveries_ends_bit_by_bit_where_an_undisturbed_one_does(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, kind: str
) -> None:
    ranks = new_ranks(3)
    start = ranks.start(tf1_checkpoint(kind), options=OPTIONS)
    undisturbed = run(ranks, start, kind, set())
    assert_identical(run(ranks, start, kind, {0, 4, 8}), undisturbed)


def test_run_with_another_seed_draws_other_random_numbers(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(3)
    start = ranks.start(tf1_checkpoint("dropout"), options=OPTIONS)
    first = run(ranks, start, "dropout", set())
    ranks.start(
        tf1_checkpoint("dropout"),
        options=TrainingOptions(batches_per_step=3, deterministic=True, seed=6),
    )
    with pytest.raises(AssertionError):
        assert_identical(run(ranks, start, "dropout", set()), first)


def test_worker_that_read_the_checkpoint_trains_the_same_bits_as_one_that_was_given_its_state(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    """So many rows that the order of their sum depends on the number of threads, in processes that
    no test has used before.
    """
    processes = [RankProcess(), RankProcess()]
    try:
        alone = [Ranks([process]) for process in processes]
        graph, options = worker_graph(tf1_checkpoint("mlp")), TrainingOptions(deterministic=True)
        for ranks in alone:
            ranks.load(graph, options)
        start = processes[0].call("load_checkpoint", str(tf1_checkpoint("mlp")))
        for ranks in alone:
            ranks.form()
            ranks.assign(start)
            ranks.step([xy_feeds(7, rows=50_000)])
        assert_identical(alone[0].states()[0], alone[1].states()[0])
    finally:
        for process in processes:
            process.close()
