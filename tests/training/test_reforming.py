"""Does a worker whose group broke keep its state, and train on in the next group within the same process?"""

from __future__ import annotations

import signal
import time
from typing import Any

import psutil
import pytest

from orchestrator.errors import AddressTaken, GraphRefused, PeerLost
from orchestrator.training.options import GroupSpec, TrainingOptions
from orchestrator.training.state import State
from tests.graphs.library import CheckpointLibrary
from tests.graphs.makers import feeds_for
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks, outcome_of

pytestmark = [pytest.mark.tf, pytest.mark.chaos]

NOTICED_WITHIN_S = 20.0
"""Measured: 4 to 60 ms; the rest is for a busy machine, and tells it from never."""
serve = feeds_for("mlp")


def batches(ranks: Ranks, step: int) -> list[Any]:
    return [serve(10_000 * len(ranks.processes) + 10 * step + rank) for rank in range(len(ranks.processes))]


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_survivors_of_a_kill_notice_at_once_keep_their_state_and_train_on(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, victim: int
) -> None:
    ranks = new_ranks(3)
    ranks.start(tf1_checkpoint("mlp", optimizer="adam"))
    ranks.step(batches(ranks, 0))
    before = ranks.states()[0]
    survivors = [process for rank, process in enumerate(ranks.processes) if rank != victim]
    pids = [process.pid for process in survivors]
    for rank, process in enumerate(ranks.processes):
        if rank != victim:
            process.send("timed_step", batches(ranks, 1)[rank])
    ranks.processes[victim].kill()
    started = time.monotonic()

    outcomes = [process.receive(30)[0] for process in survivors]

    assert time.monotonic() - started < NOTICED_WITHIN_S
    assert [type(outcome) for outcome in outcomes] == [PeerLost, PeerLost]
    states = [process.call("state") for process in survivors]
    for state in states:
        assert_identical(state, before)
    ranks.form(survivors)
    ranks.assign(states[0])
    assert [output.step for output in ranks.step(batches(ranks, 1))] == [before.step + 1] * 2
    assert [process.pid for process in survivors] == pids
    assert_identical(*ranks.states())


@pytest.mark.parametrize("victim", [0, 1])
def test_survivor_of_a_kill_before_the_first_step_is_freed_by_abandon(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, victim: int
) -> None:
    ranks = new_ranks(2)
    start = ranks.start(tf1_checkpoint("mlp", optimizer="adam"))
    survivor = ranks.processes[1 - victim]
    survivor.send("step", serve(0))
    ranks.processes[victim].kill()
    started = time.monotonic()

    survivor.control("abandon")

    assert isinstance(outcome_of(survivor.receive), PeerLost)
    assert time.monotonic() - started < NOTICED_WITHIN_S
    assert_identical(survivor.call("state"), start)
    ranks.form([survivor])
    ranks.assign(start)
    assert ranks.step([serve(0)])[0].step == start.step + 1


@pytest.mark.parametrize("leaver", [0, 1, 2])
@pytest.mark.parametrize("steps_before", [0, 2])
def test_abandon_by_a_rank_that_takes_no_step_ends_the_steps_of_all_peers(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, leaver: int, steps_before: int
) -> None:
    ranks = new_ranks(3)
    ranks.start(tf1_checkpoint("mlp", optimizer="sgd"))
    for step in range(steps_before):
        ranks.step(batches(ranks, step))
    before = ranks.states()
    others = [process for rank, process in enumerate(ranks.processes) if rank != leaver]
    for process in others:
        process.send("step", serve(7))
    started = time.monotonic()

    ranks.processes[leaver].control("abandon")

    assert [type(outcome_of(process.receive)) for process in others] == [PeerLost, PeerLost]
    assert time.monotonic() - started < NOTICED_WITHIN_S
    assert isinstance(outcome_of(lambda: ranks.processes[leaver].call("step", serve(7))), PeerLost)
    for old, new in zip(before, ranks.states(), strict=True):
        assert_identical(old, new)


def test_step_with_a_stopped_peer_ends_on_time_and_the_group_forms_without_it(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(3)
    ranks.start(tf1_checkpoint("mlp", optimizer="adam"))
    ranks.step(batches(ranks, 0))
    stopped = ranks.processes[1]
    stopped.kill(signal.SIGSTOP)
    others = [ranks.processes[0], ranks.processes[2]]
    try:
        for process in others:
            process.send("timed_step", serve(1), timeout_s=1.0)
        outcomes = [process.receive() for process in others]
        assert [type(outcome) for outcome, _ in outcomes] == [PeerLost, PeerLost]
        assert all(seconds < 1.0 + NOTICED_WITHIN_S for _, seconds in outcomes)
        states = [process.call("state") for process in others]
        assert_identical(*states)
        ranks.form(others)
        ranks.assign(states[0])
        assert [output.step for output in ranks.step(batches(ranks, 1))] == [states[0].step + 1] * 2
    finally:
        stopped.kill(signal.SIGKILL)


def test_group_growing_and_shrinking_through_all_sizes_ends_where_an_undisturbed_one_does(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(3)
    state = ranks.start(tf1_checkpoint("mlp", optimizer="adam"))
    first = state
    sizes = [1, 2, 3, 1, 3, 2]

    def run(start: State, *, forget: bool) -> State:
        current = start
        for number, size in enumerate(sizes):
            if forget:  # a fresh group for each size
                ranks.form(ranks.everyone[:1])
            ranks.form(ranks.everyone[:size])
            ranks.assign(current)
            for step in range(3):
                ranks.step([serve(100 * number + 10 * step + rank) for rank in range(size)])
            states = ranks.states()
            for other in states[1:]:
                assert_identical(other, states[0])
            current = states[0]
        return current

    once, again = run(first, forget=False), run(first, forget=True)
    assert once.step == first.step + 3 * len(sizes)
    assert_identical(once, again)


def test_state_taken_before_later_steps_is_not_changed_by_them(tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks) -> None:
    for resource in (False, True):
        ranks = new_ranks(1)
        ranks.start(tf1_checkpoint("mlp", optimizer="adam", resource=resource))
        assert ranks.processes[0].call("apply", _state_survives_steps)


def _state_survives_steps(trainer: Any) -> bool:
    from orchestrator.training.state import checksums

    kept = trainer.state()
    before = checksums(kept)
    for step in range(3):
        trainer.step(serve(step))
    return checksums(kept) == before and checksums(trainer.state()) != before


def test_memory_and_descriptors_of_twelve_generations_stay_bounded(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    megabytes = 32
    ranks = new_ranks(2)
    state = ranks.start(tf1_checkpoint("wide", megabytes=megabytes))
    process = psutil.Process(ranks.processes[0].pid)
    sizes = []
    for number in range(12):
        ranks.form()
        ranks.assign(state)
        ranks.step(batches(ranks, number))
        if number % 2:
            ranks.processes[number // 2 % 2].control("abandon")
        sizes.append(process.memory_info().rss / 2**20)
    grown = sizes[-1] - sizes[3]
    per_server = grown / 8
    # A server costs 40 MB for good; an old session's state would come on top of that, twice with the fed copy
    assert per_server < 40 + megabytes / 2, sizes


def test_form_whose_port_was_taken_in_between_says_so_and_works_with_another(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(2)
    start = ranks.start(tf1_checkpoint("mlp", optimizer="sgd"))
    outcome = ranks.processes[0].call("apply", _form_on_a_taken_port)
    assert isinstance(outcome, AddressTaken)
    ranks.form()
    ranks.assign(start)
    assert ranks.step(batches(ranks, 0))[0].step == start.step + 1


def _form_on_a_taken_port(trainer: Any) -> Any:
    import socket

    address = trainer.reserve_address()
    trainer._membership._reservation.release()
    with socket.socket() as other:
        other.bind(("", int(address.rpartition(":")[2])))
        other.listen()
        return outcome_of(lambda: trainer.form(GroupSpec(999, 0, 2, (address, "127.0.0.1:1"))))


def test_form_larger_than_the_worker_was_started_for_is_refused(tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks) -> None:
    ranks = new_ranks(1)
    ranks.start(tf1_checkpoint("mlp", optimizer="sgd"), options=TrainingOptions(max_world_size=1))
    outcome = outcome_of(lambda: ranks.processes[0].call("form", GroupSpec(5, 0, 2, ("127.0.0.1:1", "127.0.0.1:2"))))
    assert isinstance(outcome, GraphRefused)
