"""Does a driver hear as much of a thousand workers as it bears, and of three as often as before?"""

from __future__ import annotations

import pytest

from orchestrator.decide.signs_of_life import MOST_PER_S, PULSE_S, pulse_s, silent_s


@pytest.mark.parametrize("workers", [0, 1, 3, 200])
def test_few_workers_say_twice_a_second_that_they_live(workers: int) -> None:
    assert pulse_s(workers) == PULSE_S == 0.5
    assert silent_s(workers) == 2.5


@pytest.mark.parametrize("workers", [1, 199, 201, 1000, 10_000])
def test_any_number_of_workers_says_no_more_than_a_driver_bears(workers: int) -> None:
    assert workers / pulse_s(workers) <= MOST_PER_S * (1 + 1e-9)


@pytest.mark.parametrize("workers", [3, 250, 1000])
def test_worker_is_hung_after_as_many_missing_signs_in_any_group(workers: int) -> None:
    assert silent_s(workers) / pulse_s(workers) == pytest.approx(silent_s(3) / pulse_s(3))
