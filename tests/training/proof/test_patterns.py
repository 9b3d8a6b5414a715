"""Is it found which weighted sum of the slots' gradients a gradient is, and that it is none?"""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.training.proof.patterns import aligned, by_index, pattern_of, pooled

DRAW = np.random.default_rng(3)
SLOTS = [DRAW.normal(size=(5, 2)).astype(np.float32) for _ in range(3)]


def weighted(*weights: float) -> np.ndarray:
    return np.sum([weight * slot for weight, slot in zip(weights, SLOTS, strict=True)], axis=0)


@pytest.mark.parametrize(
    ("joint", "pattern"),
    [
        (weighted(1 / 3, 1 / 3, 1 / 3), "mean"),
        (weighted(1, 1, 1), "sum"),
        (weighted(0.5, 0.3, 0.2), "counts"),
        (weighted(1.0, 0.0, 0.0), "counts"),  # in the others nothing counts
        (weighted(0.5, 0.3, 0.1), "none"),  # no mean
        (weighted(1.5, -0.3, -0.2), "none"),  # no count is negative
        (DRAW.normal(size=(5, 2)), "none"),
        (np.full((5, 2), np.nan), "none"),
    ],
)
def test_pattern_is_the_weighted_sum_that_gives_the_joint_gradient(
    joint: np.ndarray, pattern: str
) -> None:
    found, weights = pattern_of(joint, SLOTS)
    assert found == pattern
    assert (weights is None) == (pattern == "none")


def test_pattern_of_a_gradient_of_few_elements_is_told_by_what_explained_another() -> None:
    small = [slot[:1, :1] for slot in SLOTS]
    joint = sum(weight * slot for weight, slot in zip((0.5, 0.3, 0.2), small, strict=True))
    assert pattern_of(np.asarray(joint), small)[0] == "none", "anything fits one element"
    known = np.array([0.5, 0.3, 0.2])
    assert pattern_of(np.asarray(joint), small, known)[0] == "counts"


def test_pattern_of_slots_that_are_multiples_of_each_other_is_not_guessed() -> None:
    same = [SLOTS[0], 2 * SLOTS[0], 3 * SLOTS[0]]
    assert pattern_of(5.1 * SLOTS[0], same)[0] == "none"


def test_pooled_gradients_count_alike_whatever_their_size() -> None:
    large = [1e6 * slot for slot in SLOTS]
    joint = [weighted(0.5, 0.3, 0.2), 1e6 * weighted(0.5, 0.3, 0.2)]
    whole, *slots = pooled([[joint[0], *SLOTS], [joint[1], *large]])
    assert np.max(np.abs(whole)) == pytest.approx(1)
    assert pattern_of(whole, slots)[0] == "counts"


def test_rows_of_one_index_are_added_and_those_of_several_steps_put_in_one_order() -> None:
    first = by_index(np.array([[1.0], [2.0], [4.0]], np.float32), np.array([3, 1, 3]))
    second = by_index(np.array([[7.0]], np.float32), np.array([2]))
    ours, theirs = aligned([first, second])
    assert ours.tolist() == [[2.0], [0.0], [5.0]]
    assert theirs.tolist() == [[0.0], [7.0], [0.0]]
