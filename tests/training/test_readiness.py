"""Has a standby that got ready done the work of a first step, without a trace in the state?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import UserCodeError
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks
from tests.training.ranks import outcome_of, worker_graph

pytestmark = pytest.mark.tf


def _prepared(trainer: Any) -> int:
    calls: int = trainer._group.session.calls
    return calls


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("kind", ["mlp", "embedding", "dropout", "lstm"])
def test_worker_that_got_ready_takes_its_first_step_with_the_calls_that_it_has_and_ends_with_the_same_bytes(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, kind: str, slots: int
) -> None:
    own, options = feeds_for(kind), TrainingOptions(batches_per_step=slots, deterministic=True)
    plain, ready = new_ranks(1), new_ranks(1)
    graph = worker_graph(tf1_checkpoint(kind), workers=slots)
    for ranks in (plain, ready):
        ranks.load(graph, options)
    assert ready.processes[0].call("get_ready")
    state = plain.processes[0].call("load_checkpoint", str(tf1_checkpoint(kind)))
    setting = ready.processes[0].call("apply", _prepared)
    for ranks in (plain, ready):
        ranks.form(position=0)
        ranks.assign(state)
    # One that others may take the state from, and nothing to set what is there already
    prepared = ready.processes[0].call("apply", _prepared)
    assert prepared == setting + 1
    for ranks in (plain, ready):
        ranks.step([own(slot) for slot in range(slots)])
    assert ready.processes[0].call("apply", _prepared) == prepared, (
        "what was prepared isn't what a step calls"
    )
    assert_identical(plain.states()[0], ready.states()[0])


def test_variable_that_nobody_has_restored_is_an_error_and_not_a_zero(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(1)
    ranks.load(worker_graph(tf1_checkpoint("mlp"), workers=2), TrainingOptions(batches_per_step=2))
    assert ranks.processes[0].call("get_ready")
    ranks.processes[0].call("join", GroupSpec(1, 0, 1))
    outcome = outcome_of(
        lambda: ranks.processes[0].call("step", [feeds_for("mlp")(slot) for slot in range(2)])
    )
    assert isinstance(outcome, UserCodeError)
    assert "uninitialized" in outcome.message
