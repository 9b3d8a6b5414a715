"""Which saves hold changed rows alone, and over which one?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.save_parts import SavedPart, amiss
from orchestrator.decide.save_policy import SaveLog, SavePolicy, ground_of
from tests.decide.situation import Driver

WORKERS = ("w0001", "w0002")
LINKS, EACH = 3, 40
"""Saves on which one may stand, and steps between two: further than a grant reaches."""


def driver_of(**shape: Any) -> Driver:
    values = {"count": 2, "save_steps": EACH, "in_parts": True, "most_links": LINKS, **shape}
    return Driver(**values).training(*WORKERS)


def wrote(driver: Driver, rank: int) -> ev.SaveWritten | ev.SaveChecked:
    """What a rank tells that has written its part of the save under way."""
    flight = driver.run.saves.in_flight
    assert flight is not None
    number, step = driver.run.saves.agreed, flight.step
    part = SavedPart(
        rank, step, step, number, f"report {rank}", (f"data {rank}",), over=flight.over
    )
    about = (WORKERS[rank], driver.run.generation, step)
    if rank:
        return ev.SaveChecked(*about, {}, step, part, number)
    return ev.SaveWritten(*about, step, "d", "p", (), {}, part=part)


def reach(driver: Driver, step: int) -> int:
    """The group is at the step of a save: over which it is."""
    for each in range(driver.run.step + 1, step + 1):
        driver.step(each, *WORKERS)
    flight = driver.run.saves.in_flight
    assert flight is not None
    assert flight.step == step
    return flight.over


def save(driver: Driver, step: int) -> int:
    """The next save is committed; the number of the one that it was over."""
    over = reach(driver, step)
    driver.tell(wrote(driver, 0), wrote(driver, 1))
    driver.only(act.Commit)
    driver.tell(ev.Committed(driver.run.generation, step, step, changes=bool(over)))
    return over


def fail(driver: Driver) -> None:
    number, flight = driver.run.saves.agreed, driver.run.saves.in_flight
    assert flight is not None
    about = (driver.run.generation, flight.step, "503", False, flight.step)
    driver.tell(wrote(driver, 0), ev.SaveFailed(*about, WORKERS[1], number))
    assert "save_failed" in driver.notes()


def test_saves_stand_on_the_one_before_and_the_next_is_full_after_so_many() -> None:
    driver = driver_of()
    assert [save(driver, EACH * number) for number in range(1, 10)] == [0, 1, 2, 3, 0, 5, 6, 7, 0]


def test_grant_tells_every_rank_over_which_save_it_is_until_all_have_written() -> None:
    driver = driver_of()
    save(driver, EACH)
    told = []
    for step in range(EACH + 1, 3 * EACH - 20):
        driver.step(step, *WORKERS)
        told += [grant for grant in driver.all(act.Grant) if grant.saves]
        if step == 2 * EACH:
            driver.tell(wrote(driver, 0))
    assert told
    assert {(grant.over, grant.save, grant.workers) for grant in told} == {(1, 2, WORKERS)}


def test_whole_tables_are_always_saved_whole() -> None:
    driver = driver_of(most_links=0)
    assert [save(driver, EACH * number) for number in range(1, 4)] == [0, 0, 0]


def test_save_that_failed_is_followed_by_one_over_the_same_and_two_by_a_full_one() -> None:
    driver = driver_of()
    assert [save(driver, EACH), save(driver, 2 * EACH)] == [0, 1]
    assert reach(driver, 3 * EACH) == 2
    fail(driver)
    assert reach(driver, 4 * EACH) == 2, "what has changed since is known"
    fail(driver)
    assert reach(driver, 5 * EACH) == 0
    fail(driver)
    assert reach(driver, 6 * EACH) == 0, (
        "nobody knows what has changed since a full one that failed"
    )


def test_commit_that_failed_is_followed_by_a_full_one() -> None:
    """What it stands on may be what is lacking."""
    driver = driver_of()
    save(driver, EACH)
    assert reach(driver, 2 * EACH) == 1
    driver.tell(wrote(driver, 0), wrote(driver, 1))
    driver.tell(ev.SaveFailed(1, 2 * EACH, "d/m-4 isn't there any more"))
    assert "save_failed" in driver.notes()
    assert reach(driver, 3 * EACH) == 0


def test_commit_that_was_in_doubt_and_is_settled_late_is_no_ground() -> None:
    driver = driver_of()
    save(driver, EACH)
    reach(driver, 2 * EACH)
    driver.tell(wrote(driver, 0), wrote(driver, 1))
    driver.tell(ev.SaveFailed(1, 2 * EACH, "no answer"))
    driver.tell(ev.Committed(1, 2 * EACH, 2 * EACH, changes=True))
    assert (driver.run.saves.committed, driver.run.saves.full) == (2 * EACH, EACH)
    assert reach(driver, 3 * EACH) == 0


def test_changed_rows_that_are_settled_late_are_not_the_full_save_of_their_step() -> None:
    driver = driver_of()
    save(driver, EACH)
    reach(driver, 2 * EACH)
    driver.tell(ev.StopAsked(ev.StopCause.SIGTERM, 1000.0))
    driver.tell(wrote(driver, 0), wrote(driver, 1))
    driver.tell(ev.SaveFailed(1, 2 * EACH, "no answer"))
    driver.step(driver.run.granted_end, *WORKERS)
    driver.wait(5.0, *driver.idle(*WORKERS))
    flight = driver.run.saves.in_flight
    assert flight is not None
    assert flight.over == 0
    driver.tell(ev.Committed(1, flight.step, flight.step, changes=True))
    assert driver.run.saves.in_flight == flight


def test_generation_that_is_formed_anew_begins_with_a_full_save() -> None:
    driver = driver_of()
    save(driver, EACH)
    save(driver, 2 * EACH)
    assert driver.run.saves.ground == 2
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.tell(ev.Held("w0001", 1, 2 * EACH, 2 * EACH, "w0001:2", "lost", share=(0, 2)))
    driver.warm("w0003")
    driver.tell(ev.Found(2 * EACH, 2 * EACH))
    assert driver.only(act.Form).generation == 2
    assert (driver.run.saves.ground, driver.run.saves.links) == (0, 0)


def test_save_under_way_while_the_group_is_formed_anew_is_no_ground_of_the_next_one() -> None:
    driver = driver_of()
    save(driver, EACH)
    reach(driver, 2 * EACH)
    flight = driver.run.saves.in_flight
    assert flight is not None
    log = replace(driver.run.saves, in_flight=replace(flight, committing=True), ground=0, links=0)
    driver.run = replace(driver.run, saves=log, generation=2)
    driver.tell(ev.Committed(1, 2 * EACH, 2 * EACH, changes=True))
    assert driver.run.saves.ground == 0


def test_run_ends_with_a_full_save_also_where_the_last_step_was_saved_already() -> None:
    driver = driver_of(until=2 * EACH)
    assert save(driver, EACH) == 0
    assert reach(driver, 2 * EACH) == 0, "no other comes after it"
    for when in ("before", "after"):
        driver = driver_of()
        save(driver, EACH)
        reach(driver, 2 * EACH)
        if when == "before":
            driver.tell(ev.StopAsked(ev.StopCause.SIGTERM, 100.0))
        driver.tell(wrote(driver, 0), wrote(driver, 1))
        driver.tell(ev.Committed(1, 2 * EACH, 2 * EACH, changes=True))
        if when == "after":
            driver.tell(ev.StopAsked(ev.StopCause.SIGTERM, 100.0))
        driver.step(driver.run.granted_end, *WORKERS)
        flight = driver.run.saves.in_flight
        assert flight is not None
        assert flight.over == 0
        assert not driver.all(act.Finish)
        driver.tell(wrote(driver, 0), wrote(driver, 1))
        driver.tell(ev.Committed(1, flight.step, flight.step))
        assert driver.only(act.Finish).outcome is act.Outcome.STOPPED


def test_full_save_has_its_own_name_beside_one_of_changed_rows_of_the_same_step() -> None:
    log = SaveLog(8, 0.0, committed=8, changes=True, before=4)
    assert log.full == 4
    assert log.holds(8, 0)
    assert not log.ends_with(8, 0)
    assert replace(log, changes=False).ends_with(8, 0)


def test_new_driver_begins_with_a_full_save_and_knows_of_what_the_last_one_was() -> None:
    rules = driver_of().rules
    run, _ = machine.begin(rules, ev.Found(8, 8), 8, Budgets(5), 1, 0.0, changes=True)
    assert (run.saves.committed, run.saves.full, run.saves.ground) == (8, None, 0)
    report = {"node": "n", "pid": 1, "address": "a", "generation": 1, "rank": 0, "world_size": 1}
    more = {"step": 8, "position": 8, "granted_end": 8, "held": False, "joined": True}
    living = machine.WorkerReport("w0001", **report, **more, loaded=True)  # type: ignore[arg-type]
    run, _ = machine.adopt(rules, [living], 8, Budgets(5), 1, 2, 0.0, changes=True)
    assert (run.saves.changes, run.saves.ground) == (True, 0)


def test_ranks_that_saved_over_different_saves_make_no_checkpoint() -> None:
    one, two = (SavedPart(rank, 4, 4, 2, None, (), over=rank) for rank in (0, 1))
    found = amiss({0: one, 1: two}, 2)
    assert found == "some ranks have written all of their rows, or what changed since other saves"
    assert not amiss({0: one, 1: replace(two, over=0)}, 2)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 4), st.integers(0, 9), st.booleans())
def test_ground_is_never_more_than_so_many_saves_nor_one_that_nobody_knows(
    most: int, links: int, failed: int, ground: int, last: bool
) -> None:
    policy = SavePolicy(10, None, "skip", 3, "stop", in_parts=True, most_links=most)
    log = SaveLog(0, 0.0, failed=failed, ground=ground, links=links)
    over = ground_of(policy, log, last=last)
    assert over in (0, ground)
    if over:
        assert 0 < links <= most
        assert not last
        assert failed <= 1


@pytest.mark.parametrize("refused", ["nan", "differs"])
def test_save_that_is_refused_is_ground_of_none(refused: str) -> None:
    driver = driver_of()
    save(driver, EACH)
    reach(driver, 2 * EACH)
    one, two = wrote(driver, 0), wrote(driver, 1)
    if refused == "nan":
        assert two.part is not None
        two = replace(two, part=replace(two.part, nonfinite=("emb",)))
    else:
        two = replace(two, digests={"dense": 2})
        one = replace(one, digests={"dense": 1})
    driver.tell(one, two)
    assert "save_refused" in driver.notes()
    assert driver.run.saves.committed == EACH
