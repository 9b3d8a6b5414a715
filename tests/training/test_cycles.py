"""Do several train operations take their turns, and does a failure within a cycle repeat or skip
none of them?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import PeerLost, UserCodeError
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State
from tests import forked
from tests.training.comparing import assert_identical, changed
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks, cut_off_once

pytestmark = pytest.mark.tf

CYCLE = ["train_critic:2", "train_maker:1"]


def options(slots: int) -> TrainingOptions:
    return TrainingOptions(
        batches_per_step=slots, deterministic=True, watch=("critic_loss:0", "maker_loss:0")
    )


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two networks at step 0."""
    done = forked.run("tests.training.duel_graph", tmp_path_factory.mktemp("duel"))
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.splitlines()[-1])


def batch(number: int, *, label: int | None = None) -> dict[str, Any]:
    draw = np.random.default_rng(number)
    rows, labels = draw.normal(size=(4, 4)).astype(np.float32), draw.integers(0, 3, 4)
    return {"x:0": rows, "y:0": labels if label is None else np.full(4, label)}


def batches(first: int, count: int) -> list[dict[str, Any]]:
    return [batch(number) for number in range(first, first + count)]


def test_step_is_one_cycle_of_all_train_operations(prefix: Path, new_ranks: NewRanks) -> None:
    ranks = new_ranks(1)
    start = ranks.start(prefix, options=options(1), train_op=CYCLE)
    output = ranks.step(batches(0, 3))[0]
    state = ranks.states()[0]
    assert output.step == 1
    assert set(output.watched) == {"critic_loss:0", "maker_loss:0"}
    assert {"critic/weights", "maker/weights"} <= set(changed(start, state))
    powers = [name for name in state.arrays if "beta1_power" in name]
    advanced = sorted(round(float(np.log(state.arrays[name]) / np.log(0.9))) for name in powers)
    assert advanced == [2, 3]  # Adam's powers start at one: the critic ran twice, the maker once
    assert state.phase == 0


def test_failure_within_a_cycle_goes_on_where_the_cycle_stood(
    prefix: Path, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(2)
    start = ranks.start(prefix, options=options(2), train_op=CYCLE)
    ranks.step(batches(0, 6))

    first, second = ranks.outcomes([*batches(6, 5), batch(11, label=99)])

    assert isinstance(first, PeerLost)
    assert isinstance(second, UserCodeError)
    broken = ranks.states()
    assert [state.phase for state in broken] == [2, 2]
    assert_identical(*broken)
    ranks.form()
    ranks.step(batches(6, 6))
    assert_identical(ranks.states()[0], _undisturbed(ranks, start))


@pytest.mark.parametrize("run", [0, 1, 2])
def test_rank_that_is_cut_off_within_a_cycle_is_level_with_its_peers_when_they_meet(
    prefix: Path, new_ranks: NewRanks, run: int
) -> None:
    ranks = new_ranks(2)
    start = ranks.start(prefix, options=options(2), train_op=CYCLE)
    ranks.step(batches(0, 6))
    ranks.processes[1].call("apply", cut_off_once, run)

    outcomes = ranks.outcomes(batches(6, 6))

    finished = run == 2  # the last run of the cycle: the rank that has it has finished the step
    assert [isinstance(outcome, PeerLost) for outcome in outcomes] == [not finished, True]
    assert [state.phase for state in ranks.states()] == [(run + 1) % 3, run]
    ranks.form(position=12 if finished else 6)
    ranks.each("meet")
    assert [state.phase for state in ranks.states()] == [(run + 1) % 3] * 2
    if not finished:
        ranks.step(batches(6, 6))
    assert_identical(*ranks.states())
    assert_identical(ranks.states()[0], _undisturbed(ranks, start))


def _undisturbed(ranks: Ranks, start: State) -> State:
    ranks.form(position=0)
    ranks.assign(start)
    for step in range(2):
        ranks.step(batches(6 * step, 6))
    return ranks.states()[0]
