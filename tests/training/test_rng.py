"""Does what random operations are keyed with depend on the batch alone?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.training.step.rng import batch_key, group_key

WHOLE = st.integers(min_value=0, max_value=2**40)


def of_step(seed: int, step: int, phase: int = 0) -> np.ndarray:
    return group_key(seed, step, 0, phase)


def of_cycle(seed: int, cycle: int) -> np.ndarray:
    """A counter that stands still."""
    return group_key(seed, 7, cycle)


@given(st.integers(), WHOLE, st.integers(0, 5))
def test_key_is_two_int64_and_the_same_each_time(seed: int, batch: int, phase: int) -> None:
    key = batch_key(seed, batch, phase)
    assert key.dtype == np.int64
    assert key.shape == (2,)
    assert np.array_equal(key, batch_key(seed, batch, phase))


def test_keys_differ_by_seed_batch_and_phase_and_from_those_of_the_group() -> None:
    keys = {
        tuple(make(seed, number, phase).tolist())
        for make in (batch_key, of_step)
        for seed in range(3)
        for number in range(20)
        for phase in range(3)
    }
    assert len(keys) == 2 * 3 * 20 * 3


@pytest.mark.parametrize("make", [batch_key, of_step, of_cycle])
def test_keys_of_neighbouring_numbers_share_no_pattern(make: object) -> None:
    assert callable(make)
    bits = np.array([[int(word) & 1 for word in make(1, number)] for number in range(2000)])
    assert abs(bits[:, 1].mean() - 0.5) < 0.05
