"""How large is a variable, and does a usual run ever jump?"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from orchestrator.decide.outliers import Size
from orchestrator.graph.worker_graph import Variable
from orchestrator.training.state.sizes import PORTION, size_of, sizes
from orchestrator.training.state.state import State
from tests import forked


@pytest.mark.parametrize(
    ("array", "size"),
    [
        (np.array([[3.0, -4.0]], np.float32), Size(math.sqrt(12.5), 4.0)),
        (np.array([3.0, -4.0], ml_dtypes.bfloat16), Size(math.sqrt(12.5), 4.0)),
        (np.array([3 - 4j], np.complex64), Size(5.0, 5.0, single=True, uniform=True)),
        (np.zeros(7, np.float32), Size(0.0, 0.0, uniform=True)),
        (np.float32(2.0).reshape(()), Size(2.0, 2.0, single=True, uniform=True)),
        (np.full(2, 3e38, np.float32), Size(3e38, 3e38, uniform=True)),
        (np.array([1.0, np.nan]), Size(math.inf, math.inf)),
        (np.array([1.0, -np.inf]), Size(math.inf, math.inf)),
    ],
)
def test_array_has_its_size(array: np.ndarray, size: Size) -> None:
    found = size_of(array, trained=True)
    assert (found.single, found.uniform) == (size.single, size.uniform)
    assert (found.rms, found.largest) == pytest.approx((size.rms, size.largest), rel=1e-6)


def test_array_of_several_portions_has_the_size_of_the_whole() -> None:
    array = np.ones(2 * PORTION + 3, np.float32)
    assert size_of(array, trained=True).uniform
    array[-1] = 5.0
    found = size_of(array, trained=True)
    assert (found.largest, found.uniform) == (5.0, False)
    assert found.rms == pytest.approx(math.sqrt((array.size + 24) / array.size))


def test_local_integer_and_absent_variables_have_no_size() -> None:
    variables = [
        Variable("w", "ref", "float32", (2,), trainable=True),
        Variable("w/Adam", "ref", "float32", (2,), slot_of="w"),
        Variable("count", "ref", "int64", ()),
        Variable("metric", "ref", "float32", (), local=True),
        Variable("never_set", "ref", "float32", (2,)),
        Variable("empty", "ref", "float32", (0,)),
    ]
    arrays = {
        "w": np.ones(2, np.float32),
        "w/Adam": np.ones(2, np.float32),
        "count": np.int64(3),
        "metric": np.float32(1),
        "empty": np.zeros(0, np.float32),
    }
    found = sizes(State(0, {name: np.asarray(value) for name, value in arrays.items()}), variables)
    assert {name: size.trained for name, size in found.items()} == {"w": True, "w/Adam": False}


@pytest.mark.slow
@pytest.mark.tf
def test_usual_runs_jump_at_none_of_their_first_checkpoints() -> None:
    done = forked.run("tests.training.usual_runs")
    assert done.returncode == 0, done.stderr[-4000:]
    said, _, count = done.stdout.strip().rpartition("looked at ")
    assert said == ""
    assert int(count) > 200
