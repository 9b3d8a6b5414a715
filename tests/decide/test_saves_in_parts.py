"""Is a save to which every rank gives its rows committed with all of them, and only then?"""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.actions import Outcome
from orchestrator.decide.outliers import Size
from orchestrator.decide.progress import SAVE_STILL_S
from orchestrator.decide.save_parts import SavedPart, amiss, sizes_together
from tests.decide.situation import Driver

WORKERS = ("w0001", "w0002", "w0003")


def with_save_under_way(**shape: object) -> Driver:
    """Three members that have copied their rows for the save of step 4."""
    driver = Driver(count=3, save_steps=4, in_parts=True, **shape).training(*WORKERS)
    driver.step(4, *WORKERS)
    flight = driver.run.saves.in_flight
    assert flight is not None
    assert (flight.step, flight.parts, flight.writer) == (4, 3, "w0001")
    return driver


def part(driver: Driver, rank: int, step: int = 4, **more: Any) -> SavedPart:
    made = {"position": step, "save": driver.run.saves.agreed, "report": f"report {rank}"}
    return SavedPart(rank, step, **{**made, "files": (f"data {rank}",), **more})


def wrote(
    driver: Driver, rank: int, step: int = 4, digest: int = 1, **more: Any
) -> ev.SaveWritten | ev.SaveChecked:
    """What a rank tells that has written its part."""
    made = part(driver, rank, step, **more)
    about = (WORKERS[rank], driver.run.generation, step)
    if rank:
        return ev.SaveChecked(*about, {"dense": digest}, made.position, made, made.save)
    return ev.SaveWritten(
        *about, made.position, "d", "p", (), {"dense": digest}, stall_s=0.2, part=made
    )


def could_not(driver: Driver, rank: int, why: str = "503", *, busy: bool = False) -> ev.SaveFailed:
    number = driver.run.saves.agreed
    return ev.SaveFailed(driver.run.generation, 4, why, busy, 4, WORKERS[rank], number)


def test_grant_tells_how_many_ranks_write_until_all_have() -> None:
    driver = Driver(count=3, save_steps=30, in_parts=True).training(*WORKERS)
    for step in range(3, 30):
        driver.step(step, *WORKERS)
        if told := [grant for grant in driver.all(act.Grant) if grant.saves]:
            assert {(grant.saves, grant.parts) for grant in told} == {((30,), 3)}
            break
    driver.tell(wrote(driver, 0, 30))
    driver.step(driver.run.granted_end, *WORKERS)
    assert {grant.parts for grant in driver.all(act.Grant)} == {3}, "two haven't heard of it"


def test_save_of_whole_tables_says_nothing_of_parts() -> None:
    driver = Driver(count=3, save_steps=4).training(*WORKERS)
    driver.step(4, *WORKERS)
    assert driver.run.saves.in_flight is not None
    assert driver.run.saves.in_flight.parts == 0


def test_parts_of_all_ranks_are_committed_as_one_in_the_order_of_ranks() -> None:
    driver = with_save_under_way()
    driver.tell(wrote(driver, 2), wrote(driver, 0))
    assert not driver.all(act.Commit)
    driver.tell(wrote(driver, 1))
    written = driver.only(act.Commit).written
    assert written.files == ("data 0", "data 1", "data 2")
    assert written.reports == ("report 0", "report 1", "report 2")
    assert (written.step, written.position, written.directory, written.prefix) == (4, 4, "d", "p")
    assert written.stall_s == 0.2
    driver.tell(ev.Committed(1, 4, 4))
    assert driver.run.saves.committed == 4
    assert not driver.run.parts


def test_part_that_is_told_twice_counts_once() -> None:
    driver = with_save_under_way()
    driver.tell(wrote(driver, 0), wrote(driver, 1), wrote(driver, 1))
    assert not driver.all(act.Commit)
    driver.tell(wrote(driver, 2))
    assert len(driver.only(act.Commit).written.files) == 3
    driver.tell(wrote(driver, 2))
    assert not driver.actions, "it is being committed"


@pytest.mark.parametrize("rank", range(3))
def test_save_fails_once_where_one_rank_could_not_write_and_not_before_the_others_have_told(
    rank: int,
) -> None:
    driver = with_save_under_way()
    others = [other for other in range(3) if other != rank]
    driver.tell(could_not(driver, rank), wrote(driver, others[0]))
    assert "save_failed" not in driver.notes()
    driver.tell(wrote(driver, others[1]))
    assert driver.notes().count("save_failed") == 1
    assert driver.run.saves.failed == 1
    assert not driver.all(act.Commit)


def test_store_that_refuses_all_ranks_counts_as_one_save_that_failed() -> None:
    driver = with_save_under_way()
    driver.tell(*(could_not(driver, rank) for rank in range(3)))
    assert driver.run.saves.failed == 1


def test_failures_of_a_save_that_is_over_are_not_those_of_the_next_one() -> None:
    """The last save is tried again at the same step: what a slow rank tells of the one before
    would end it.
    """
    driver = Driver(count=3, save_steps=1000, until=4, in_parts=True).training(*WORKERS)
    driver.step(4, *WORKERS)
    late, late_part = could_not(driver, 2), wrote(driver, 1)
    driver.wait(SAVE_STILL_S + 30.0, *driver.idle(*WORKERS), every_s=1.0)
    assert driver.run.saves.failed == 1
    assert driver.run.saves.in_flight is not None, "it is tried again"
    driver.tell(late, late_part)
    assert driver.run.saves.failed == 1
    driver.tell(wrote(driver, 0), wrote(driver, 2))
    assert not driver.all(act.Commit), "the part of another save is no part of this one"
    driver.tell(wrote(driver, 1))
    assert driver.all(act.Commit)


def test_rank_that_is_busy_postpones_the_save_and_one_that_failed_besides_fails_it() -> None:
    driver = with_save_under_way()
    driver.tell(wrote(driver, 0), wrote(driver, 2), could_not(driver, 1, "busy", busy=True))
    assert "save_postponed" in driver.notes()
    assert driver.run.saves.failed == 0
    for order in (1, -1):
        driver = with_save_under_way()
        told = could_not(driver, 1, "busy", busy=True), could_not(driver, 2, "503")
        driver.tell(wrote(driver, 0), *told[::order])
        assert driver.run.saves.failed == 1


@pytest.mark.parametrize("lost", range(3))
def test_save_is_lost_with_a_rank_that_has_not_written_its_rows(lost: int) -> None:
    driver = with_save_under_way()
    driver.tell(*(wrote(driver, rank) for rank in range(3) if rank != lost))
    driver.tell(ev.Gone(WORKERS[lost], ev.Cause.DIED))
    assert "save_lost" in driver.notes()
    assert not driver.all(act.Commit)
    assert (driver.run.saves.owed, driver.run.saves.failed, driver.run.written) == (True, 0, None)


def test_save_is_committed_though_a_rank_dies_after_it_has_written() -> None:
    driver = with_save_under_way()
    driver.tell(wrote(driver, 1), wrote(driver, 2))
    driver.tell(ev.Gone(WORKERS[2], ev.Cause.DIED))
    driver.tell(wrote(driver, 0))
    assert len(driver.only(act.Commit).written.reports) == 3


def test_parts_of_different_steps_are_no_checkpoint() -> None:
    driver = with_save_under_way()
    driver.tell(wrote(driver, 0), wrote(driver, 1), wrote(driver, 2, 5))
    assert not driver.all(act.Commit)
    assert driver.run.saves.failed == 1


def test_rank_that_only_checked_has_written_nothing() -> None:
    driver = with_save_under_way()
    driver.tell(wrote(driver, 0), wrote(driver, 1), ev.SaveChecked("w0003", 1, 4, {}, 4))
    assert not driver.all(act.Commit)
    assert set(driver.run.expected) == {"w0003"}


def test_ranks_that_differ_in_what_is_not_divided_are_repaired() -> None:
    driver = with_save_under_way()
    driver.tell(wrote(driver, 0), wrote(driver, 1, digest=2), wrote(driver, 2))
    assert "save_refused" in driver.notes()
    assert not driver.all(act.Commit)


def test_rows_that_are_not_finite_on_any_rank_refuse_the_save() -> None:
    driver = with_save_under_way()
    driver.tell(wrote(driver, 0), wrote(driver, 1), wrote(driver, 2, nonfinite=("emb",)))
    assert driver.only(act.Finish).outcome is Outcome.FAILED
    assert "emb" in driver.reason()


def test_rows_that_jump_on_one_rank_are_told() -> None:
    driver = with_save_under_way()
    before, after = (
        {"emb": Size(1.0, 1.0, elements=8)},
        {"emb": Size(9e4, 1e5, elements=8)},
    )
    calm: dict[str, Any] = {"sizes": before, "measured": before}
    told = (wrote(driver, 0, **calm), wrote(driver, 1, **calm))
    driver.tell(*told, wrote(driver, 2, sizes=after, measured=before))
    assert "variable_jumped" in driver.notes()
    assert driver.all(act.Commit)


def test_last_save_of_a_group_that_stands_still_is_written_by_all_ranks() -> None:
    driver = Driver(count=3, in_parts=True).training(*WORKERS)
    driver.step(4, *WORKERS)
    driver.tell(ev.UserFailed("w0002", 1, 4, {"message": "it raised"}))
    driver.held(4, *WORKERS)
    grant = driver.only(act.Grant)
    assert (grant.workers, grant.saves, grant.parts, grant.writer) == (WORKERS, (4,), 3, "w0001")
    driver.tell(*(wrote(driver, rank) for rank in range(3)))
    assert len(driver.only(act.Commit).written.reports) == 3
    driver.tell(ev.Committed(1, 4, 4))
    assert driver.only(act.Finish).outcome is Outcome.FAILED


@pytest.mark.parametrize("why", ["one is gone", "one is a step ahead"])
def test_last_save_is_not_tried_where_nobody_has_all_rows_of_one_step(why: str) -> None:
    driver = Driver(count=3, in_parts=True).training(*WORKERS)
    driver.step(4, *WORKERS)
    driver.tell(ev.StopAsked(ev.StopCause.SIGTERM, 25.0))
    if why == "one is gone":
        driver.tell(ev.Gone("w0003", ev.Cause.DIED))
        driver.held(4, "w0001", "w0002")
    else:
        driver.tell(ev.UserFailed("w0002", 1, 4, {"message": "it raised"}))
        driver.held(5, "w0001")
        driver.held(4, "w0002", "w0003")
    assert not driver.all(act.Grant)
    assert driver.all(act.Finish)


def test_parts_are_one_checkpoint_where_all_are_there_at_one_step() -> None:
    one, two, later = (
        SavedPart(rank, step, step, 1, None, ()) for rank, step in ((0, 4), (1, 4), (1, 5))
    )
    assert amiss({0: one, 1: two}, 2) == ""
    assert "rank 1" in amiss({0: one}, 2)
    assert "rank 0, 1" in amiss({}, 2)
    assert amiss({1: two}, 5).endswith("rank 0, 2, 3"), "the first three are enough to look for"
    assert "steps 4, 5" in amiss({0: one, 1: later}, 2)


def test_sizes_of_blocks_make_the_size_of_the_whole() -> None:
    """As one would measure all rows: 3 and 4 here, 0 and 12 there."""
    blocks = [Size(math.sqrt(12.5), 4.0, elements=2), Size(math.sqrt(72.0), 12.0, elements=2)]
    parts = [
        SavedPart(rank, 4, 4, 1, None, (), (), {"emb": block}, {"emb": block})
        for rank, block in enumerate(blocks)
    ]
    sizes, measured = sizes_together(parts)
    assert sizes["emb"].rms == pytest.approx(math.sqrt((9 + 16 + 0 + 144) / 4))
    assert (sizes["emb"].largest, sizes["emb"].elements) == (12.0, 4)
    assert measured == sizes


@pytest.mark.parametrize(
    ("blocks", "uniform", "rms"),
    [
        ([Size(0.5, 0.5, uniform=True, elements=1, single=True)] * 3, True, 0.5),
        (
            [Size(0.5, 0.5, uniform=True, elements=2), Size(0.7, 0.7, uniform=True, elements=2)],
            False,
            math.sqrt((0.25 + 0.49) / 2),
        ),
        (
            [Size(math.inf, math.inf, elements=2), Size(1.0, 1.0, elements=2)],
            False,
            math.inf,
        ),
        ([Size(2e300, 3e300, elements=5)] * 2, False, 2e300),
        ([Size(0.0, 0.0, uniform=True, elements=5)] * 2, True, 0.0),
    ],
)
def test_block_of_one_number_is_not_taken_for_a_counter(
    blocks: list[Size], uniform: bool, rms: float
) -> None:
    parts = [
        SavedPart(rank, 4, 4, 1, None, (), (), {"emb": block}) for rank, block in enumerate(blocks)
    ]
    (size,) = sizes_together(parts)[0].values()
    assert (size.single, size.uniform) == (False, uniform)
    assert size.rms == pytest.approx(rms)


@pytest.mark.parametrize(("largest", "rms"), [(math.inf, math.inf), (2.0, 2.0)])
def test_whole_of_blocks_is_as_large_as_the_largest_and_trained_as_they_are(
    largest: float, rms: float
) -> None:
    blocks = [
        Size(1.0, 1.0, trained=False, elements=0),
        Size(largest, largest, trained=False, elements=3),
    ]
    parts = [
        SavedPart(rank, 4, 4, 1, None, (), (), {"emb": block}) for rank, block in enumerate(blocks)
    ]
    whole = sizes_together(parts)[0]["emb"]
    assert whole == Size(rms, largest, trained=False)
    assert whole.elements == 3


def test_rows_that_were_measured_by_another_number_of_ranks_are_compared_with_nothing() -> None:
    now, few = Size(1.0, 1.0, elements=4), Size(1.0, 1.0, elements=2)
    parts = [
        SavedPart(0, 4, 4, 1, None, (), (), {"emb": now, "w": now}, {"emb": few, "w": now}),
        SavedPart(1, 4, 4, 1, None, (), (), {"emb": now}, {}),
    ]
    sizes, measured = sizes_together(parts)
    assert set(sizes) == {"emb", "w"}
    assert set(measured) == {"w"}
