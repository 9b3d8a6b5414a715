"""Does a group whose exchange is TensorFlow's own hold together, vote, and hand its state on? On
the CPU, where TensorFlow's ring stands for NCCL: everything but the kernels that move the numbers
is what a GPU would use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.errors import PeerLost
from orchestrator.training.engine.options import TrainingOptions
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks, outcome_of

pytestmark = [pytest.mark.tf, pytest.mark.chaos]

serve = feeds_for("mlp")


def _carried_by(hint: str) -> None:
    from orchestrator.training.nccl import exchange

    exchange.HINT = hint


@pytest.fixture
def ranks(new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary) -> Iterator[Ranks]:
    made = new_ranks(2)
    made.each("function", _carried_by, "ring")
    made.start(
        tf1_checkpoint("mlp", optimizer="adam"),
        options=TrainingOptions(exchange="nccl", batches_per_step=2, max_world_size=2),
    )
    yield made
    for process in made.everyone:
        if process.alive:
            process.call("function", _carried_by, "nccl")


def test_group_trains_and_its_ranks_stay_equal(ranks: Ranks) -> None:
    before = ranks.states()[0]
    for step in range(3):
        ranks.step([serve(2 * step), serve(2 * step + 1)])
    first, second = ranks.states()
    assert_identical(first, second)
    assert first.step == before.step + 3


def test_state_goes_along_into_the_next_groups_session(ranks: Ranks) -> None:
    ranks.step([serve(0), serve(1)])
    before = ranks.states()[0]
    ranks.form()
    assert_identical(ranks.states()[0], before)
    ranks.step([serve(2), serve(3)])
    assert_identical(*ranks.states())


def test_survivor_of_a_kill_keeps_its_state_and_hands_it_on(ranks: Ranks) -> None:
    ranks.step([serve(0), serve(1)])
    before = ranks.states()[0]
    ranks.processes[0].send("step", [serve(2)])
    ranks.processes[1].kill()
    assert isinstance(outcome_of(ranks.processes[0].receive), PeerLost)
    assert_identical(ranks.processes[0].call("state"), before)


def test_step_whose_vote_fails_changes_nothing_though_the_collectives_said_that_they_were_done(
    ranks: Ranks,
) -> None:
    ranks.step([serve(0), serve(1)])
    before = ranks.states()
    ranks.each("apply", _lose_the_peer_at_the_vote)
    outcomes = ranks.outcomes([serve(2), serve(3)])
    assert [type(outcome) for outcome in outcomes] == [PeerLost, PeerLost]
    assert ranks.each("apply", _votes) == [1, 1]
    for old, new in zip(before, ranks.states(), strict=True):
        assert_identical(old, new)


def _lose_the_peer_at_the_vote(trainer: Any) -> None:
    trainer.votes = 0
    mesh = trainer._group._meeting.meet(None)

    def gone(blob: bytes) -> Any:
        trainer.votes += 1
        raise PeerLost("the peer is gone")

    mesh.all_gather = gone


def _votes(trainer: Any) -> int:
    votes: int = trainer.votes
    return votes
