"""Does each run of a cycle train on batches of its own, whoever computes them and wherever the run
is taken up again?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.graph.inputs.batches_of_runs import batches_of_runs
from orchestrator.graph.worker_graph import InputPort, TrainTarget
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State
from tests import forked
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks

ADDS, RATE = 4, 0.1
CYCLE = [f"add:{ADDS}", "apply"]


def port(name: str, *targets: int, shape: tuple[int | None, ...] | None = (None, 2)) -> InputPort:
    return InputPort(name, name, "float32", shape, targets=targets)


ROWS, RATE_PORT, SWITCH = port("x:0", 0), port("rate:0", 1, shape=()), port("keep:0", 0, 1)


@pytest.mark.parametrize(
    ("ratios", "ports", "how", "wanted"),
    [
        ((1,), [ROWS], "own", (0,)),
        ((3, 1), [ROWS], "own", (0, 1, 2, 2)),
        ((3, 1), [ROWS, RATE_PORT], "own", (0, 1, 2, 2)),
        ((5, 1), [port("x:0", 0, 1)], "own", (0, 1, 2, 3, 4, 5)),
        ((1, 2, 1), [port("x:0", 1)], "own", (0, 0, 1, 1)),
        ((2, 1), [port("z:0", 0, 1, shape=None)], "own", (0, 1, 2)),
        ((2, 1), [], "own", (0, 1, 2)),
        ((2, 1), [SWITCH], "own", (0, 1, 2)),
        ((2, 1), [ROWS, SWITCH], "own", (0, 1, 1)),
        ((5, 1), [port("x:0", 0, 1)], "same", (0, 0, 0, 0, 0, 0)),
    ],
)
def test_run_takes_a_batch_of_its_own_where_it_needs_rows(
    ratios: tuple[int, ...], ports: list[InputPort], how: Any, wanted: tuple[int, ...]
) -> None:
    targets = [TrainTarget(f"op{number}", ratio) for number, ratio in enumerate(ratios)]
    assert batches_of_runs(targets, ports, {"keep:0"}, how) == wanted


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = forked.run("tests.training.adding_graph", tmp_path_factory.mktemp("adding"))
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.splitlines()[-1])


def rows(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(3, 4)).astype(np.float32)


def batches(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"x:0": rows(number), "rate:0": np.float32(RATE)} for number in range(first, first + count)
    ]


def by_hand(steps: int, slots: int, *, same: bool = False) -> np.ndarray:
    """The weights after steps whose every addition is the mean of ``slots`` batches that come after
    those of the one before; ``same``: whose additions are all of the step's first ones.
    """
    weights, number = np.ones((4, 1)), 0
    for _ in range(steps):
        total = np.zeros((4, 1))
        for _ in range(ADDS):
            taken = [rows(number + slot).astype(np.float64) for slot in range(slots)]
            total += np.mean([2 * x.T @ (x @ weights - 1) / len(x) for x in taken], axis=0)
            number += 0 if same else slots
        number += slots if same else 0
        weights = weights - RATE * total / 4
    return weights


def started(ranks: Ranks, prefix: Path, slots: int, **config: Any) -> State:
    options = TrainingOptions(batches_per_step=slots, deterministic=True)
    return ranks.start(prefix, options=options, train_op=CYCLE, **config)


@pytest.mark.tf
@pytest.mark.parametrize(("size", "slots"), [(1, 1), (1, 3), (2, 3)])
def test_gradients_that_are_added_up_in_several_runs_are_of_as_many_batches(
    prefix: Path, new_ranks: NewRanks, size: int, slots: int
) -> None:
    ranks = new_ranks(size)
    started(ranks, prefix, slots)
    for step in range(3):
        outputs = ranks.step(batches(step * ADDS * slots, ADDS * slots))
        assert [output.step for output in outputs] == [step + 1] * size
    assert ranks.processes[0].call("position") == 3 * ADDS * slots
    weights = ranks.states()[0].arrays["weights"]
    np.testing.assert_allclose(weights, by_hand(3, slots), rtol=1e-5)


@pytest.mark.tf
def test_runs_of_a_cycle_are_given_one_batch_where_that_is_asked_for(
    prefix: Path, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(1)
    started(ranks, prefix, 2, cycle_batches="same")
    ranks.step(batches(0, 2))
    ranks.step(batches(2, 2))
    np.testing.assert_allclose(
        ranks.states()[0].arrays["weights"], by_hand(2, 2, same=True), rtol=1e-5
    )


@pytest.mark.tf
def test_cycle_ends_with_the_same_bytes_on_any_number_of_workers_and_taken_up_in_the_middle(
    prefix: Path, new_ranks: NewRanks
) -> None:
    """Three slots on two workers: who serves slot 0 changes from run to run."""
    ranks = new_ranks(2)
    start = started(ranks, prefix, 3)
    per_step = 3 * ADDS
    for step in range(3):
        ranks.step(batches(step * per_step, per_step))
    shared = ranks.states()[0]

    ranks.form(ranks.processes[:1], position=0)
    ranks.assign(start)
    for step in range(2):
        ranks.step(batches(step * per_step, per_step))
    ranks.form(ranks.everyone)
    ranks.assign(ranks.processes[0].call("state"))
    ranks.step(batches(2 * per_step, per_step))
    for state in ranks.states():
        assert_identical(state, shared)
