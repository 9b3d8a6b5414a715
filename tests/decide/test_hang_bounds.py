"""Is a step that is slow told apart from one that hangs, and is what hangs found within its bound?"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from orchestrator.config import RunConfig
from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.hang_bounds import (
    COMPUTING_S,
    SLOW_START_S,
    WORKING_S,
    computing,
    computing_bound_s,
    hang_bound_s,
    last_turn_s,
    may_go_on,
    silence_bound_s,
)
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Roster
from orchestrator.decide.rules.deadlines import REMEDY
from orchestrator.decide.signs_of_life import pulse_s
from tests.decide.situation import Driver

FAST_S = 0.04


@pytest.fixture
def training() -> Driver:
    """Two workers whose steps take 40 ms, and a standby."""
    driver = Driver(count=2, standby=1).training("w0001", "w0002").warm("w0003")
    for step in range(4, 40):
        steps(driver, step, FAST_S, "w0001", "w0002")
    return driver


def steps(driver: Driver, step: int, took_s: float, *workers: str) -> list[act.Action]:
    """These finish a step after so long."""
    pace = 1.0 / FAST_S
    told = (ev.Progress(each, driver.run.generation, step, ev.Doing.STEP, pace) for each in workers)
    return list(driver.tell(*told, ev.Tick(), after_s=took_s))


def at(
    driver: Driver, worker: str, doing: ev.Doing, processor_s: float | None = None
) -> ev.Progress:
    """A sign of life in the present generation."""
    known = driver.run.workers[worker]
    return ev.Progress(
        worker, driver.run.generation, known.step or 0, doing, processor_s=processor_s or 0.0
    )


def hurt(done: list[act.Action]) -> list[str]:
    """Who was ended as hung, and whose step was broken off."""
    ended = [
        each.worker for each in done if isinstance(each, act.EndWorker) and each.cause == "hung"
    ]
    return ended + ["broken" for each in done if isinstance(each, act.BreakStep)]


def wait(
    driver: Driver, seconds: float, doing: dict[str, ev.Doing], busy: str = ""
) -> list[act.Action]:
    """Let time pass while these say what they do; ``busy`` uses half a processor."""
    done: list[act.Action] = []
    for _ in range(round(seconds * 2)):
        signs = [
            at(driver, worker, what, driver.now_s / 2 if worker == busy else None)
            for worker, what in doing.items()
            if worker in driver.run.workers
        ]
        idle = driver.idle("w0003") if "w0003" in driver.run.workers else ()
        done += driver.tell(*signs, *idle, ev.Tick(), after_s=0.5)
    return done


ALL = {"w0001": ev.Doing.COMPUTING, "w0002": ev.Doing.COMPUTING}
ONE = {"w0001": ev.Doing.COMPUTING, "w0002": ev.Doing.STEP}
NONE = {"w0001": ev.Doing.STEP, "w0002": ev.Doing.STEP}


@pytest.mark.parametrize("doing", [ALL, ONE])
def test_slow_step_inside_the_sessions_run_ends_nobody(
    training: Driver, doing: dict[str, ev.Doing]
) -> None:
    assert not hurt(wait(training, 60.0, doing)), "60 s among 40 ms"
    steps(training, 40, 0.04, "w0001", "w0002")
    assert training.run.step == 40


def test_members_that_wait_for_each_other_are_found_as_fast_as_ever(training: Driver) -> None:
    assert hurt(wait(training, 6.0, NONE)) == ["broken"]


def test_one_that_stands_in_the_graph_without_working_is_ended_alone(training: Driver) -> None:
    began_s = training.now_s
    done = wait(training, COMPUTING_S - 2.0, ONE)
    assert not hurt(done)
    done = wait(training, 4.0, ONE)
    assert hurt(done) == ["w0001"]
    assert training.now_s - began_s <= COMPUTING_S + 4.0
    (ended,) = [each for each in done if isinstance(each, act.EndWorker)]
    assert "--hang-floor-s" in ended.detail


def test_all_that_stand_in_the_graph_are_broken_off_and_ended_then(training: Driver) -> None:
    assert hurt(wait(training, COMPUTING_S + 2.0, ALL)) == ["broken"]
    assert sorted(hurt(wait(training, COMPUTING_S + 2.0, ALL))) == ["w0001", "w0002"]


@pytest.mark.slow
def test_one_that_uses_a_processor_is_left_at_work_for_an_hour(training: Driver) -> None:
    assert not hurt(wait(training, WORKING_S - 30.0, ONE, busy="w0001"))
    assert hurt(wait(training, 60.0, ONE, busy="w0001")) == ["w0001"]


def test_first_step_that_takes_ten_minutes_ends_nobody_while_it_works() -> None:
    driver = Driver(count=2, standby=1).training("w0001", "w0002").warm("w0003")
    assert not hurt(wait(driver, 5 * SLOW_START_S, ALL, busy="w0002"))
    steps(driver, 4, 0.1, "w0001", "w0002")
    assert driver.run.step == 4


def test_step_that_rightly_stands_still_ends_nobody_where_the_floor_is_raised_as_the_error_says() -> (
    None
):
    driver = Driver(count=2, standby=1, hang_floor_s=600.0).training("w0001", "w0002").warm("w0003")
    for step in range(4, 40):
        steps(driver, step, FAST_S, "w0001", "w0002")
    for doing in (ALL, ONE, NONE):
        assert not hurt(wait(driver, 590.0, doing))
        steps(driver, driver.run.step + 1, 0.1, "w0001", "w0002")


def test_remedy_names_a_flag_that_there_is() -> None:
    found = re.search(r"--([a-z-]+) ", REMEDY)
    assert found is not None
    assert found[1].replace("-", "_") in RunConfig.model_fields


def test_same_step_gets_twice_the_time_when_it_comes_again(training: Driver) -> None:
    """A step that stands still for 200 s, of a healthy graph, kills once and not again."""
    wait(training, COMPUTING_S + 2.0, ONE)
    training.tell(ev.Gone("w0001", ev.Cause.HUNG, "hung"))
    training.held(39, "w0002")
    form = training.only(act.Form)
    training.tell(*(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats))
    assert training.run.phase is Phase.TRAINING
    newest = next(seat.worker for seat in form.seats if seat.worker != "w0002")
    slow = {newest: ev.Doing.COMPUTING, "w0002": ev.Doing.STEP}
    assert not hurt(wait(training, 200.0, slow))
    steps(training, 40, 0.04, newest, "w0002")
    assert training.run.suspicions == 0
    assert training.run.longest_s >= 200.0
    steps(training, 41, 0.04, newest, "w0002")
    assert not hurt(wait(training, 200.0, slow)), "the next such step has all the time it needs"


def test_suspicion_outlives_the_steps_before_the_one_that_raised_it(training: Driver) -> None:
    """The group went back to a checkpoint: the steps that come first pass no judgement."""
    training.run = replace(training.run, suspicions=1, suspected=(45, 90))
    steps(training, 42, FAST_S, "w0001", "w0002")
    assert training.run.suspicions == 1
    steps(training, 46, FAST_S, "w0001", "w0002")
    assert training.run.suspicions == 0


def test_member_inside_a_slow_run_is_waited_for_where_the_group_gathers() -> None:
    driver = Driver(count=3, standby=1).training("w0001", "w0002", "w0003")
    for step in range(4, 30):
        steps(driver, step, FAST_S, "w0001", "w0002", "w0003")
    driver.tell(ev.Gone("w0003", ev.Cause.DIED))
    driver.held(29, "w0002")
    assert driver.run.phase is Phase.GATHERING
    slow = {"w0001": ev.Doing.COMPUTING, "w0002": ev.Doing.IDLE}
    assert not hurt(wait(driver, 60.0, slow))
    assert hurt(wait(driver, COMPUTING_S, slow)) == ["w0001"]


@pytest.mark.parametrize(
    ("step_time_s", "longest_s", "floor_s", "suspicions", "bound_s"),
    [
        (0.01, 0.0, 5.0, 0, 5.0),
        (4.0, 0.0, 5.0, 0, 12.0),
        (0.01, 20.0, 5.0, 0, 40.0),
        (0.01, 0.0, 5.0, 2, 20.0),
        (None, 0.0, 5.0, 0, SLOW_START_S),
        (None, 0.0, 200.0, 1, 400.0),
    ],
)
def test_bound_follows_the_steps_that_were_seen_above_its_floor(
    step_time_s: float | None, longest_s: float, floor_s: float, suspicions: int, bound_s: float
) -> None:
    driver = Driver(count=2, hang_floor_s=floor_s)
    run = replace(
        driver.run,
        stepped=step_time_s is not None,
        step_time_s=step_time_s,
        longest_s=longest_s,
        suspicions=suspicions,
    )
    assert hang_bound_s(run) == bound_s


def test_bound_of_a_generation_without_a_step_is_that_of_a_slow_start(training: Driver) -> None:
    assert hang_bound_s(replace(training.run, stepped=False)) == SLOW_START_S


def test_silence_bound_allows_for_late_signs_of_life() -> None:
    assert silence_bound_s(Driver(count=2, hang_floor_s=5.0).run) == 5.0
    assert silence_bound_s(Driver(count=2, hang_floor_s=0.1).run) == 2.5
    assert silence_bound_s(Driver(count=1000, hang_floor_s=5.0).run) == 12.5


def test_bound_of_a_large_group_allows_for_what_its_members_say_less_often(
    training: Driver,
) -> None:
    few, worker = training.run, next(iter(training.run.workers.values()))
    many = replace(few, workers=Roster(replace(worker, ident=f"w{n:04}") for n in range(1000)))
    assert silence_bound_s(many) == 12.5
    assert hang_bound_s(many) == hang_bound_s(few) + pulse_s(1000) - pulse_s(2)


def test_few_that_are_left_of_many_may_be_silent_as_long_as_the_many(training: Driver) -> None:
    """They answer a question that was asked when they were a thousand."""
    run = training.run
    large = replace(
        run, policy=replace(run.policy, sizes=replace(run.policy.sizes, largest=900, standby=100))
    )
    assert len(large.workers) < 10
    assert silence_bound_s(large) == 12.5
    assert hang_bound_s(large) == hang_bound_s(run) + pulse_s(1000) - pulse_s(2)


@pytest.mark.parametrize(
    ("suspicions", "since_ago_s", "worked_ago_s", "goes_on"),
    [
        (0, COMPUTING_S - 0.25, None, True),
        (0, COMPUTING_S, None, False),
        (1, 2 * COMPUTING_S - 0.25, None, True),
        (1, 2 * COMPUTING_S, None, False),
        # One of them was at work meanwhile
        (0, 1000.0, COMPUTING_S - 0.25, True),
        (0, 1000.0, COMPUTING_S, False),
        # And another one's work of before the step counts for nothing
        (0, COMPUTING_S - 0.25, 5000.0, True),
        (0, WORKING_S - 0.25, 1.0, True),
        (0, WORKING_S, 1.0, False),
        (1, 2 * WORKING_S - 0.25, 1.0, True),
        (1, 2 * WORKING_S, 1.0, False),
    ],
)
def test_member_inside_the_sessions_run_may_go_on_for_its_bound(
    training: Driver,
    suspicions: int,
    since_ago_s: float,
    worked_ago_s: float | None,
    goes_on: bool,
) -> None:
    now_s, run = 10000.0, replace(training.run, suspicions=suspicions)
    for ident, ago_s in (("w0001", 9000.0), ("w0002", worked_ago_s or since_ago_s)):
        worker = replace(run.workers[ident], worked_s=now_s - ago_s)
        run = replace(run, workers=run.workers.put(worker))
    both = ["w0001", "w0002"]
    assert may_go_on(run, both, now_s - since_ago_s, now_s, 0.25) is goes_on
    assert not may_go_on(run, [], now_s - 1.0, now_s, 0.25)


def test_run_whose_usual_steps_are_longer_gives_those_inside_it_as_much(training: Driver) -> None:
    assert computing_bound_s(training.run) == COMPUTING_S
    slow = replace(training.run, step_time_s=100.0)
    assert computing_bound_s(slow) == hang_bound_s(slow) == 300.0
    assert computing_bound_s(replace(slow, suspicions=1)) == 600.0
    long = replace(training.run, step_time_s=2000.0)
    assert may_go_on(long, ["w0001"], 0.0, 5000.0, 0.25), "however long that is"


def test_members_that_compute_are_those_of_the_group(training: Driver) -> None:
    run = training.run
    for ident in run.workers:
        worker = replace(run.workers[ident], doing=ev.Doing.COMPUTING, turned_s=70.0)
        run = replace(run, workers=run.workers.put(worker))
    assert computing(run) == ["w0001", "w0002"]
    assert last_turn_s(replace(run, moved_s=60.0)) == 70.0
    assert last_turn_s(replace(run, moved_s=80.0)) == 80.0
