"""Is much that all ranks hold alike written by several of them, and little by one?"""

from __future__ import annotations

import random

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import save_policy
from orchestrator.decide.save_parts import LEAST_PART_BYTES, SavedPart, dealt, writers
from orchestrator.decide.save_policy import SavePolicy
from tests.decide.situation import Driver

WORKERS = ("w0001", "w0002", "w0003")
PART = LEAST_PART_BYTES
TWO_PARTS = (PART, PART)


def test_as_many_ranks_write_as_have_enough_to_write() -> None:
    assert writers((), 8) == 1
    assert writers((PART, PART - 1), 8) == 1
    assert writers(TWO_PARTS, 8) == 2
    assert writers((PART // 4,) * 1000, 8) == 8
    # A variable isn't cut
    assert writers((100 * PART,), 8) == 1
    assert writers((2 * PART, PART // 8), 8) == 1
    assert writers((9 * PART, 9 * PART, PART // 2, PART // 2), 8) == 3


def policy(alike: tuple[int, ...], *, in_parts: bool = False) -> SavePolicy:
    return SavePolicy(10, None, "skip", 3, "stop", in_parts=in_parts, alike=alike)


def test_one_that_writes_all_writes_no_parts_and_divided_tables_are_written_by_all() -> None:
    assert save_policy.parts(policy((PART,)), 8) == 0
    assert save_policy.parts(policy(TWO_PARTS), 8) == 2
    assert save_policy.parts(policy(TWO_PARTS), 1) == 0
    assert save_policy.parts(policy((), in_parts=True), 8) == 8
    assert save_policy.parts(policy(TWO_PARTS, in_parts=True), 1) == 1


@pytest.mark.parametrize("seed", range(20))
def test_each_variable_is_one_rank_s_and_no_rank_has_much_more_than_its_share(seed: int) -> None:
    draw = random.Random(seed)
    ranks = draw.randint(1, 9)
    sizes = {f"v{number}": draw.randrange(PART) for number in range(200)}
    owners = dealt(sizes, ranks)
    loads = [sum(sizes[name] for name in sizes if owners[name] == rank) for rank in range(ranks)]
    assert owners.keys() == sizes.keys()
    assert set(owners.values()) == set(range(ranks))
    assert max(loads) - min(loads) <= max(sizes.values())
    # The same on every rank, in whatever order it has them
    shuffled = dict(draw.sample(sorted(sizes.items()), len(sizes)))
    assert dealt(shuffled, ranks) == owners


@pytest.mark.parametrize("seed", range(20))
def test_those_who_write_have_enough_and_are_as_many_as_are_told(seed: int) -> None:
    draw = random.Random(seed)
    sizes = {f"v{number}": int(PART * 2 ** draw.uniform(-6, 4)) for number in range(9)}
    ranks = draw.randint(2, 12)
    count = writers(tuple(sizes.values()), ranks)
    owners = dealt(sizes, ranks)
    # Told of as many as write, a rank deals the same
    assert dealt(sizes, count) == owners
    assert set(owners.values()) == set(range(count))
    if count > 1:
        for rank in range(count):
            assert sum(sizes[name] for name in sizes if owners[name] == rank) >= PART


def test_little_is_the_first_rank_s() -> None:
    assert dealt({"a": 10, "b": 20}, 8) == {"a": 0, "b": 0}
    assert dealt({}, 8) == {}


def with_save_under_way() -> Driver:
    """Three members, two of which write a part each of the save of step 4."""
    driver = Driver(count=3, save_steps=4, alike=TWO_PARTS).training(*WORKERS)
    driver.step(4, *WORKERS)
    flight = driver.run.saves.in_flight
    assert flight is not None
    assert (flight.step, flight.parts, flight.writer) == (4, 2, "w0001")
    return driver


def told(driver: Driver, rank: int, digest: int = 1) -> ev.SaveWritten | ev.SaveChecked:
    """What a rank tells: the first two have written a part, the third has only checked."""
    number, about = driver.run.saves.agreed, (WORKERS[rank], driver.run.generation, 4)
    part = SavedPart(rank, 4, 4, number, f"report {rank}", (f"data {rank}",)) if rank < 2 else None
    if rank:
        return ev.SaveChecked(*about, {"v": digest}, 4, part, number)
    return ev.SaveWritten(*about, 4, "d", "p", (), {"v": digest}, part=part)


def test_save_is_committed_when_those_have_written_who_should_and_all_have_checked() -> None:
    driver = with_save_under_way()
    driver.tell(told(driver, 1), told(driver, 0))
    assert not driver.all(act.Commit)
    driver.tell(told(driver, 2))
    (commit,) = driver.all(act.Commit)
    assert commit.written.files == ("data 0", "data 1")
    assert commit.written.reports == ("report 0", "report 1")


def test_rank_that_writes_nothing_may_still_differ() -> None:
    driver = with_save_under_way()
    driver.tell(told(driver, 0), told(driver, 1), told(driver, 2, digest=2))
    assert not driver.all(act.Commit)
    assert "save_refused" in driver.notes()


def test_word_of_an_earlier_save_of_the_same_step_is_no_check_of_this_one() -> None:
    driver = with_save_under_way()
    late = ev.SaveChecked("w0003", driver.run.generation, 4, {"v": 1}, 4, None, 99)
    driver.tell(told(driver, 0), told(driver, 1), late)
    assert not driver.all(act.Commit)
    assert set(driver.run.expected) == {"w0003"}


def test_save_is_lost_with_a_rank_that_had_a_part_in_it_and_is_made_up_for() -> None:
    driver = with_save_under_way()
    driver.tell(told(driver, 0), told(driver, 2), ev.Gone("w0002", ev.Cause.DIED))
    assert "save_lost" in driver.notes()
    assert not driver.all(act.Commit)
    assert driver.run.saves.owed
    assert driver.run.saves.failed == 0


def test_rank_that_has_written_its_part_may_go() -> None:
    driver = with_save_under_way()
    driver.tell(told(driver, 1), ev.Gone("w0002", ev.Cause.DIED))
    driver.tell(told(driver, 2), told(driver, 0))
    assert driver.all(act.Commit)


def test_save_outlives_a_rank_that_was_only_to_check() -> None:
    driver = with_save_under_way()
    driver.tell(ev.Gone("w0003", ev.Cause.DIED), told(driver, 1), told(driver, 0))
    assert driver.all(act.Commit)


def with_the_save_lost_and_made_up_for(driver: Driver) -> None:
    """The second rank has died with its part, the others stand still and the first writes all."""
    driver.tell(ev.UserFailed("w0002", 1, 4, {"message": "it raised"}))
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.held(4, "w0001", "w0003")
    flight = driver.run.saves.in_flight
    assert flight is not None
    assert (flight.step, flight.parts, flight.writer) == (4, 0, "w0001")


def test_part_of_a_lost_save_is_not_the_whole_one_that_makes_up_for_it() -> None:
    """It lists no file: what is committed of it is an empty checkpoint."""
    driver = with_save_under_way()
    late = told(driver, 0)
    with_the_save_lost_and_made_up_for(driver)
    driver.tell(late)
    assert not driver.all(act.Commit)
    assert driver.run.written is None
    whole = ev.SaveWritten("w0001", driver.run.generation, 4, 4, "d", "p", ("all",), {"v": 1})
    driver.tell(whole)
    assert driver.only(act.Commit).written.files == ("all",)


def test_refusal_of_a_lost_save_is_none_of_the_one_that_makes_up_for_it() -> None:
    driver = with_save_under_way()
    late = [
        ev.SaveFailed(1, 4, "503", False, 4, worker, driver.run.saves.agreed)
        for worker in ("w0001", "w0003")
    ]
    with_the_save_lost_and_made_up_for(driver)
    driver.tell(*late)
    assert driver.run.saves.failed == 0
    assert driver.run.saves.in_flight is not None


def test_last_save_of_a_group_that_stands_still_is_written_by_one_whole() -> None:
    """All have the state: nobody needs to wait for those who are gone."""
    driver = Driver(count=3, save_steps=1000, alike=TWO_PARTS).training(*WORKERS)
    driver.step(4, *WORKERS)
    driver.tell(ev.UserFailed("w0002", 1, 4, {"message": "it raised"}))
    driver.held(4, *WORKERS)
    grant = driver.only(act.Grant)
    assert (grant.workers, grant.saves, grant.parts) == ((grant.writer,), (4,), 0)
