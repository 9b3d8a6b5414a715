"""Does what is granted only ever grow?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.grant_policy import (
    AHEAD_OF_NEWCOMER_S,
    AHEAD_S,
    FIRST_GRANT,
    MOST_AHEAD,
    MOST_PER_S,
    ahead,
    ahead_s,
    next_end,
    steps_within,
)


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**4),
    st.one_of(st.none(), st.floats(1e-7, 100)),
    st.integers(0, 2 * 10**6),
)
def test_grant_never_shrinks_and_stays_within_reach(
    end: int, behind: int, step_time_s: float | None, limit: int
) -> None:
    fastest = max(0, end - behind)
    granted = next_end(end, fastest, step_time_s, limit)
    assert granted >= end
    assert granted <= max(end, limit)
    assert granted <= max(end, fastest + ahead(step_time_s))


@pytest.mark.parametrize(
    ("step_time_s", "steps"),
    [(None, FIRST_GRANT), (0.001, 1000), (0.5, 2), (30.0, 1), (1e-9, MOST_AHEAD)],
)
def test_grant_reaches_about_a_second_ahead(step_time_s: float | None, steps: int) -> None:
    assert ahead(step_time_s) == steps


def test_grant_is_renewed_before_it_ends() -> None:
    assert next_end(100, 40, 0.01, 1000) == 100, "more than half of it is left"
    assert next_end(100, 60, 0.01, 1000) == 160


@pytest.mark.parametrize("workers", [1, 3, 250])
def test_grant_of_few_members_reaches_a_second_and_less_for_a_newcomer(workers: int) -> None:
    assert ahead_s(workers) == AHEAD_S
    assert ahead_s(min(workers, 100), lacking=True) == AHEAD_OF_NEWCOMER_S


@pytest.mark.parametrize("lacking", [False, True])
@pytest.mark.parametrize("workers", [500, 1000, 5000])
def test_grants_of_many_members_are_no_more_than_a_driver_bears(
    workers: int, lacking: bool
) -> None:
    renewed_s = ahead_s(workers, lacking=lacking) / 2
    assert workers / renewed_s <= MOST_PER_S


def test_grant_is_renewed_when_half_of_it_is_used_up() -> None:
    assert next_end(100, 49, 0.01, 1000) == 100
    assert next_end(100, 50, 0.01, 1000) == 150
    assert next_end(100, 100, 0.01, None, each=4) == 500, "each step leads so far"
    assert next_end(100, 100, 0.01, None, each=4, ahead_s=0.5) == 300
    assert next_end(7, 7, None, None, each=8) == 7 + 8 * FIRST_GRANT


@pytest.mark.parametrize(
    ("seconds", "step_time_s", "steps"),
    [(600.0, 0.125, 4800), (600.0, None, 600), (0.1, 1.0, 1), (1.0, 1e-9, 10**6), (6.0, 0.0, 6)],
)
def test_steps_within_some_seconds_are_as_many_as_take_so_long(
    seconds: float, step_time_s: float | None, steps: int
) -> None:
    assert steps_within(seconds, step_time_s) == steps
