"""Do batches that are weighted by what they count train what one process with all their rows does,
with the same bits on any number of workers?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import UserCodeError
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.host.weighing import divided, weighed, weight_of
from orchestrator.training.state.state import State
from tests import forked
from tests.driver.proof_graphs import batch
from tests.end_to_end.commands import assert_close, plain_variables
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks

STEPS, SLOTS = 6, 3
INPUTS = {"weighted": ("x:0", "y:0", "mask:0"), "tokens": ("ids:0", "y:0")}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of all graphs."""
    directory = tmp_path_factory.mktemp("weights")
    done = forked.run("tests.driver.proof_graphs", directory)
    assert not done.returncode, done.stderr[-3000:]
    return directory


def fed(name: str, number: int) -> dict[str, np.ndarray]:
    """A batch; with as many rows as its number says."""
    whole = batch(number, 6 + number % 3)
    return {key: whole[key] for key in INPUTS[name]}


def trained(ranks: Any, prefix: Path, name: str, workers: int, **config: Any) -> State:
    options = TrainingOptions(batches_per_step=SLOTS, deterministic=True)
    settings = {"workers": workers, "batches_per_step": SLOTS, **config}
    ranks.start(prefix, options=options, **settings)
    for step in range(STEPS):
        ranks.step([fed(name, SLOTS * step + slot) for slot in range(SLOTS)])
    first, *others = ranks.states()
    for other in others:
        assert_identical(other, first)
    state: State = first
    return state


@pytest.mark.tf
@pytest.mark.parametrize("name", INPUTS)
def test_weighted_batches_equal_one_process_with_all_rows_bit_for_bit_on_any_number_of_workers(
    graphs: Path, new_ranks: NewRanks, tmp_path: Path, name: str
) -> None:
    """A masked mean with Adam, and a loss of tokens of a looked-up table; both by counts that no
    two batches have alike.
    """
    prefix = graphs / name / "model.ckpt-0"
    alone, two, three = (
        trained(new_ranks(workers), prefix, name, workers, weight_by="counted:0")
        for workers in (1, 2, 3)
    )
    assert_identical(two, alone)
    assert_identical(three, alone)
    steps = [[fed(name, SLOTS * step + slot) for slot in range(SLOTS)] for step in range(STEPS)]
    joint = [{key: np.concatenate([each[key] for each in one]) for key in one[0]} for one in steps]
    theirs = plain_variables(prefix, tmp_path, joint)
    assert_close({key: alone.arrays[key] for key in theirs}, theirs, 1e-6)
    unweighted = trained(new_ranks(1), prefix, name, 1)
    apart = np.max(np.abs(unweighted.arrays["w"] - theirs["w"]))
    assert apart > 1e-3 * np.max(np.abs(theirs["w"])), "else the weights were for nothing"


@pytest.mark.tf
def test_weight_that_is_no_single_number_is_told_with_its_shape(
    graphs: Path, new_ranks: NewRanks
) -> None:
    prefix = graphs / "weighted" / "model.ckpt-0"
    with pytest.raises(UserCodeError, match=r"--weight-by mask:0 has the shape \[6\]"):
        trained(new_ranks(1), prefix, "weighted", 1, weight_by="mask:0")


@pytest.mark.parametrize(
    ("value", "said"), [(np.float32(-1), "value -1"), (np.nan, "value nan"), ([1, 2], "shape")]
)
def test_weight_that_cannot_count_is_refused(value: Any, said: str) -> None:
    with pytest.raises(UserCodeError, match=said):
        weight_of(value, "count:0")


def test_batch_that_counts_nothing_gives_nothing_whatever_its_gradient_is() -> None:
    assert weighed(np.array([np.nan, 1], np.float32), 0.0).tolist() == [0, 0]
    assert weighed(np.array([1, 2], np.float16), 3.0).dtype == np.float32
    assert divided(np.array([6], np.float32), 3.0).dtype == np.float32


def test_step_in_which_nothing_counts_has_no_mean() -> None:
    with pytest.raises(UserCodeError, match="are 0"):
        divided(np.zeros(1), 0.0)
