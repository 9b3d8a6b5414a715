"""Is a hang found within its bound?"""

from __future__ import annotations

import pytest

from orchestrator.decide.hang_bounds import hang_bound_s, silence_bound_s


@pytest.mark.parametrize(
    ("step_time_s", "floor_s", "stepped", "bound_s"),
    [
        (0.01, 5.0, True, 5.0),
        (4.0, 5.0, True, 12.0),
        (None, 5.0, False, 120.0),
        (0.01, 5.0, False, 120.0),
        (0.01, 200.0, False, 200.0),
    ],
)
def test_hang_bound_follows_the_step_time_above_its_floor(
    step_time_s: float | None, floor_s: float, stepped: bool, bound_s: float
) -> None:
    assert hang_bound_s(step_time_s, floor_s, stepped) == bound_s


def test_silence_bound_allows_for_late_signs_of_life() -> None:
    assert silence_bound_s(5.0) == 5.0
    assert silence_bound_s(0.1) == 2.5
