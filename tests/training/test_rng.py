"""Do random operations get a key of their own for every rank and step, and the same one again when a step is taken again?"""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.training.rng import GROUP, step_key

seeds = st.integers(-(2**63), 2**63)


@given(seed=seeds, rank=st.integers(0, 1000), step=st.integers(0, 2**62), phase=st.integers(0, 50))
def test_step_key_is_two_int64_and_the_same_each_time(seed: int, rank: int, step: int, phase: int) -> None:
    key = step_key(seed, rank, step, phase)
    assert key.dtype == np.int64
    assert key.shape == (2,)
    assert np.array_equal(key, step_key(seed, rank, step, phase))


def test_step_key_differs_by_seed_rank_step_and_phase() -> None:
    keys = {
        tuple(step_key(seed, rank, step, phase).tolist())
        for seed in range(4)
        for rank in (GROUP, *range(8))
        for step in range(50)
        for phase in range(3)
    }
    assert len(keys) == 4 * 9 * 50 * 3
