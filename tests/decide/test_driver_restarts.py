"""Is a driver that was killed started again, and one that chose to end left alone?"""

from __future__ import annotations

import pytest

from orchestrator.decide.driver_restarts import (
    CRASHED,
    LONGEST_DELAY_S,
    MOST_DEATHS,
    MOST_QUICK_DEATHS,
    End,
    StartAgain,
    after_exit,
)


@pytest.mark.parametrize("code", [0, 1, 2, 130, 143])
def test_chosen_exit_code_is_passed_on(code: int) -> None:
    assert after_exit(code, 5.0, None, (), 0.0, chosen=True) == End(code)


@pytest.mark.parametrize("code", [0, 1, 2, 130, 143])
def test_exit_code_that_the_driver_didnt_choose_is_a_death_whatever_the_number(code: int) -> None:
    assert isinstance(after_exit(code, 100.0, None, (), 100.0, chosen=False), StartAgain)


def test_killed_driver_is_started_again_at_once() -> None:
    answer = after_exit(-9, 100.0, None, (), 100.0, chosen=False)
    assert isinstance(answer, StartAgain)
    assert answer.delay_s < 1


def test_driver_that_met_an_error_of_its_own_is_started_again() -> None:
    assert isinstance(after_exit(CRASHED, 100.0, None, (), 100.0, chosen=False), StartAgain)


def test_driver_killed_while_stopping_isnt() -> None:
    answer = after_exit(-9, 100.0, 143, (), 100.0, chosen=False)
    assert isinstance(answer, End)
    assert answer.code == 143


def test_driver_that_dies_at_every_start_is_given_up() -> None:
    deaths: tuple[tuple[float, float], ...] = ()
    delays = []
    for number in range(MOST_QUICK_DEATHS - 1):
        answer = after_exit(-11, 1.0, None, deaths, number * 2.0, chosen=False)
        assert isinstance(answer, StartAgain)
        deaths = answer.deaths
        delays.append(answer.delay_s)
    assert delays == sorted(delays)
    assert delays[-1] <= LONGEST_DELAY_S
    last = after_exit(-11, 1.0, None, deaths, 99.0, chosen=False)
    assert isinstance(last, End)
    assert last.code == 1


def test_driver_that_dies_too_often_is_given_up_and_old_deaths_are_forgotten() -> None:
    deaths = tuple((float(number), 60.0) for number in range(MOST_DEATHS))
    assert isinstance(after_exit(-9, 60.0, None, deaths, 100.0, chosen=False), End)
    assert isinstance(after_exit(-9, 60.0, None, deaths, 10_000.0, chosen=False), StartAgain)
