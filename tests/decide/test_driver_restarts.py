"""Is a driver that was killed started again, and one that chose to end left alone?"""

from __future__ import annotations

import pytest

from orchestrator.decide.driver_restarts import (
    CRASHED,
    LONGEST_DELAY_S,
    MOST_DEATHS,
    MOST_QUICK_DEATHS,
    QUICK_S,
    WINDOW_S,
    Death,
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
    assert max(delays) == LONGEST_DELAY_S, "whoever waits for a successor counts on it"
    last = after_exit(-11, 1.0, None, deaths, 99.0, chosen=False)
    assert isinstance(last, End)
    assert last.code == 1


def test_driver_that_dies_too_often_is_given_up_and_old_deaths_are_forgotten() -> None:
    deaths = tuple((float(number), 60.0) for number in range(MOST_DEATHS))
    assert isinstance(after_exit(-9, 60.0, None, deaths, 100.0, chosen=False), End)
    assert isinstance(after_exit(-9, 60.0, None, deaths, 10_000.0, chosen=False), StartAgain)


def test_driver_that_dies_at_once_is_waited_for_longer_each_time_and_one_that_lived_is_not() -> (
    None
):
    deaths: tuple[tuple[float, float], ...] = ()
    for delay_s in (0.2, 0.8, 3.2):
        answer = after_exit(-11, QUICK_S - 0.1, None, deaths, 5.0, chosen=False)
        assert isinstance(answer, StartAgain)
        assert answer.delay_s == pytest.approx(delay_s)
        deaths = answer.deaths
    assert deaths == ((5.0, QUICK_S - 0.1),) * 3
    answer = after_exit(-11, QUICK_S, None, deaths, 6.0, chosen=False)
    assert isinstance(answer, StartAgain)
    assert answer.delay_s == pytest.approx(0.2)


def test_ends_say_what_happened() -> None:
    stopping = after_exit(-9, 1.0, 130, (), 0.0, chosen=False)
    assert isinstance(stopping, End)
    assert "SIGKILL" in stopping.reason
    assert "while it was stopping" in stopping.reason
    quick = after_exit(-9, 1.0, None, ((0.0, 1.0),) * 3, 0.0, chosen=False)
    assert isinstance(quick, End)
    assert quick.code == 1
    assert "4 times in a row within 20 s" in quick.reason


def test_deaths_of_one_hour_are_counted_to_the_last_that_is_allowed() -> None:
    now_s = 3.0 * WINDOW_S
    in_window = now_s - WINDOW_S + 1
    allowed = ((in_window, 60.0),) * (MOST_DEATHS - 1)
    assert isinstance(after_exit(-9, 60.0, None, allowed, now_s, chosen=False), StartAgain)
    end = after_exit(-9, 60.0, None, (*allowed, (in_window, 60.0)), now_s, chosen=False)
    assert isinstance(end, End)
    assert end.code == 1
    assert f"{MOST_DEATHS + 1} times within an hour" in end.reason
    too_old = (now_s - WINDOW_S, 60.0)
    answer = after_exit(-9, 60.0, None, (*allowed, too_old), now_s, chosen=False)
    assert isinstance(answer, StartAgain)
    assert too_old not in answer.deaths


def test_next_driver_is_told_how_the_one_before_it_ended() -> None:
    answer = after_exit(-9, 60.0, None, ((1.0, 60.0),), 2.0, chosen=False)
    assert isinstance(answer, StartAgain)
    death = answer.death(-9)
    assert (death.code, death.restart, death.allowed) == (-9, 2, MOST_DEATHS)


@pytest.mark.parametrize(("told", "who"), [({}, "the driver"), ({"who": "eval"}, "eval")])
def test_end_names_who_died_and_of_what(told: dict[str, str], who: str) -> None:
    stopping = after_exit(-9, 1.0, 143, (), 0.0, chosen=False, **told)
    assert stopping == End(
        143, f"{who} ended (killed by SIGKILL) while it was stopping; what is committed stands"
    )
    quick = after_exit(70, 1.0, None, ((0.0, 1.0),) * 3, 0.0, chosen=False, **told)
    assert quick == End(1, f"{who} died 4 times in a row within 20 s of its start (exit code 70)")
    often = after_exit(-9, 60.0, None, ((0.0, 60.0),) * MOST_DEATHS, 0.0, chosen=False, **told)
    assert often == End(1, f"{who} died 21 times within an hour (killed by SIGKILL)")


def test_only_quick_deaths_since_the_last_one_that_lived_count_in_a_row() -> None:
    deaths = ((0.0, 1.0), (1.0, 1.0), (2.0, QUICK_S), (30.0, 1.0), (31.0, 1.0))
    answer = after_exit(-9, 1.0, None, deaths, 32.0, chosen=False)
    assert isinstance(answer, StartAgain)
    assert answer.delay_s == pytest.approx(3.2)
    assert answer.deaths == (*deaths, (32.0, 1.0))


@pytest.mark.parametrize(
    ("text", "death"),
    [
        ("-9 3 20", Death(-9, 3, 20)),
        (" 70  1 5\n", Death(70, 1, 5)),
        ("1 2 3 4", None),
        ("1 2 x3", None),
        ("--9 1 20", None),
    ],
)
def test_what_a_supervisor_tells_of_a_death_is_read_or_passed_over(
    text: str, death: Death | None
) -> None:
    assert Death.parse(text) == death
