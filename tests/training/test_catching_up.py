"""Does a rank that was cut off before it had a step's result take it from a peer, and nothing else?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.errors import CorruptState, PeerLost
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.host.standing import (
    Handing,
    Standing,
    first_owners,
    handing,
    pack_result,
    slots_kept,
    unpack_result,
)
from orchestrator.training.state.state import State
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks
from tests.training.ranks import cut_off_once, outcome_of


def test_result_is_handed_from_the_first_rank_that_has_it_to_all_that_lack_it() -> None:
    fresh = Standing(None, None)
    assert handing([fresh, fresh]) is None
    assert handing([Standing((0, 0), (3, 0)), Standing((0, 0), (3, 0))]) is None, (
        "a run that nobody finished is taken again by all"
    )
    standings = [
        Standing((0, 0), (3, 0)),
        Standing((3, 0), (6, 0)),
        fresh,
        Standing((3, 0), None),
        Standing(None, (3, 0)),
    ]
    assert handing(standings) == Handing((3, 0), 1, (0, 4))


def test_standing_survives_the_wire_and_nonsense_is_a_lost_peer() -> None:
    for standing in (Standing(None, None), Standing((3, 1), None), Standing((3, 0), (3, 1))):
        assert Standing.parse(memoryview(standing.packed()), 1) == standing
    for message in (b"", b"[]", b"[1, 2]", b"[[1], null]", b"\xff"):
        with pytest.raises(PeerLost, match="rank 1 answered nonsense"):
            Standing.parse(message, 1)


def test_result_survives_the_wire_and_damage_is_seen_wherever_it_is() -> None:
    result: dict[str, np.ndarray] = {
        "a:0": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b:0": np.array([], np.int64),
        "c:0": np.array(2.5, np.float16),
    }
    message = pack_result(result)
    found = unpack_result(memoryview(message), 0)
    assert list(found) == list(result)
    for name, array in result.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
    for place in (0, 5, 20, len(message) - 1):
        damaged = bytearray(message)
        damaged[place] ^= 1
        with pytest.raises(CorruptState, match="from rank 0 arrived damaged"):
            unpack_result(memoryview(damaged), 0)


def test_slots_that_two_ranks_kept_are_contributed_once() -> None:
    messages = [slots_kept((6, 0), [0, 1]), slots_kept((6, 0), [1, 2]), slots_kept((6, 0), [])]
    served = [frozenset({0, 3}), frozenset({1}), frozenset({2})]
    assert first_owners(messages, (6, 0), served) == [{0, 1, 3}, set(), {2}]
    with pytest.raises(PeerLost, match="rank 1 is at batch 3, run 0"):
        first_owners([slots_kept((6, 0), []), slots_kept((3, 0), [])], (6, 0), served[:2])


def _count_assignments(trainer: Any) -> None:
    real, trainer.assigned = trainer.assign, 0

    def assign(state: State) -> None:
        trainer.assigned += 1
        real(state)

    trainer.assign = assign


def _assignments(trainer: Any) -> int:
    return int(trainer.assigned)


@pytest.mark.tf
@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["mlp", "embedding", "conv_bn", "dropout", "lstm"])
def test_rank_that_is_a_run_behind_gets_the_result_and_ends_with_the_same_bytes(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, kind: str
) -> None:
    ranks = new_ranks(2)
    own = feeds_for(kind)
    start = ranks.start(
        tf1_checkpoint(kind), options=TrainingOptions(batches_per_step=2, deterministic=True)
    )
    ranks.each("apply", _count_assignments)

    def step(number: int) -> list[Any]:
        return ranks.outcomes([own(10 * number + slot) for slot in range(2)])

    for number in range(3):
        step(number)
    undisturbed = ranks.states()[0]
    ranks.form(position=0)
    ranks.assign(start)
    step(0)
    ranks.processes[1].call("apply", cut_off_once, 0)
    outcomes = step(1)
    assert [type(each).__name__ for each in outcomes] == ["StepOutput", "PeerLost"]
    assert (ranks.processes[0].call("can_give"), ranks.processes[1].call("can_take")) == (
        True,
        True,
    )
    assigned = ranks.each("apply", _assignments)

    ranks.form(position=4)
    ranks.each("meet")
    step(2)

    assert ranks.each("apply", _assignments) == assigned
    assert_identical(*ranks.states())
    assert_identical(ranks.states()[0], undisturbed)


@pytest.mark.tf
@pytest.mark.chaos
def test_result_that_arrives_damaged_leaves_the_rank_behind_as_it_was(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(2)
    own = feeds_for("mlp")
    ranks.start(tf1_checkpoint("mlp", optimizer="adam"))
    ranks.processes[1].call("apply", cut_off_once, 0)
    before = ranks.processes[1].call("state")
    ranks.outcomes([own(slot) for slot in range(2)])
    ranks.processes[0].call("apply", _give_damaged)

    ranks.form(position=2)
    for process in ranks.processes:
        process.send("meet")
    outcomes = [outcome_of(process.receive) for process in ranks.processes]

    assert isinstance(outcomes[1], CorruptState)
    assert_identical(ranks.processes[1].call("state"), before)
    ranks.processes[0].call("apply", _give_whole)
    ranks.form(position=2)
    ranks.each("meet")
    assert_identical(*ranks.states())


def _give_damaged(trainer: Any) -> None:
    import orchestrator.training.host.kept_work as room

    trainer.packer = room.pack_result  # type: ignore[attr-defined]

    def damaged(result: Any) -> bytes:
        message = bytearray(trainer.packer(result))
        message[-1] ^= 1
        return bytes(message)

    room.pack_result = damaged  # type: ignore[attr-defined]


def _give_whole(trainer: Any) -> None:
    import orchestrator.training.host.kept_work as room

    room.pack_result = trainer.packer  # type: ignore[attr-defined]
