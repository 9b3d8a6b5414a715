"""Whose state goes on where each member holds rows that nobody else has?

Rule: each member's own, where every rank is as it was; else what it lacks of its rank's rows comes
from those who hold them, and where nobody does, all read a checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import crew, machine
from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Run
from orchestrator.decide.save_policy import InFlight
from tests.decide.situation import Driver


def divided(copies: int = 1, **shape: Any) -> Driver:
    driver = Driver(**shape)
    saving = replace(driver.rules.saving, in_parts=True)
    policy = replace(driver.run.policy, saving=saving, table_copies=copies)
    driver.run = replace(driver.run, policy=policy)
    return driver


def hold(driver: Driver, step: int, *workers: str, **told: Any) -> tuple[act.Action, ...]:
    """They stop at this step, with the rows of their rank."""
    run, position = driver.run, 2 * (step - 3)
    return driver.tell(
        *(
            ev.Held(
                *(worker, run.generation, step, position, f"{worker}:2", "lost"),
                share=(run.rank_of(worker) or 0, run.world_size),
                **told,
            )
            for worker in workers
        )
    )


def reason(driver: Driver) -> str:
    (found,) = driver.all(act.FindCheckpoint)
    return str(found.reason)


def test_members_that_keep_their_ranks_go_on_with_their_own_rows() -> None:
    driver = divided(count=2).training("w0001", "w0002")
    driver.step(10, "w0001", "w0002")
    hold(driver, 10, "w0001", "w0002")

    form = driver.only(act.Form)
    assert [seat.state_from for seat in form.seats] == [StateFrom.OWN, StateFrom.OWN]
    assert (form.donor, form.step) == (None, 10)


def test_member_that_lacks_one_run_takes_its_result_and_keeps_its_rows() -> None:
    driver = divided(count=2).training("w0001", "w0002")
    driver.step(10, "w0001", "w0002")
    hold(driver, 10, "w0001", takes=True)
    hold(driver, 11, "w0002", gives=True)

    form = driver.only(act.Form)
    assert [seat.state_from for seat in form.seats] == [StateFrom.RESULT, StateFrom.OWN]
    assert form.step == 11


def test_member_that_is_behind_and_cannot_take_the_result_brings_all_back_to_a_checkpoint() -> None:
    driver = divided(count=2).training("w0001", "w0002")
    driver.step(10, "w0001", "w0002")
    hold(driver, 10, "w0001")
    hold(driver, 11, "w0002", gives=True)

    assert "no living worker has some rows" in reason(driver)


@pytest.mark.parametrize("standby", [0, 1])
def test_lost_rank_takes_all_back_to_the_newest_checkpoint_with_or_without_a_standby(
    standby: int,
) -> None:
    names = ["w0001", "w0002", "w0003"][: 2 + standby]
    driver = divided(count=2, smallest=1, standby=standby).training(*names)
    driver.step(10, *names[:2])
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    hold(driver, 10, "w0001")
    assert not driver.all(act.Form)
    assert "each worker reads its own" in reason(driver)
    assert "finding_checkpoint" in driver.notes()
    driver.tell(ev.Found(7, 8))

    form = driver.only(act.Form)
    assert {seat.state_from for seat in form.seats} == {StateFrom.CHECKPOINT}
    assert len(form.seats) == 1 + standby
    assert (form.donor, form.step, form.position) == (None, 7, 8)
    (told,) = [one.event for one in driver.all(act.Note) if one.event.word == "generation"]
    assert (told.state_from, told.redone) == ("checkpoint", 3)


def test_whole_tables_still_go_on_from_the_survivors_state() -> None:
    driver = Driver(count=2, smallest=1).training("w0001", "w0002")
    driver.step(10, "w0001", "w0002")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    hold(driver, 10, "w0001")

    assert driver.only(act.Form).step == 10


def test_rows_of_another_groups_rank_are_not_taken_for_this_ones() -> None:
    driver = divided(count=2).training("w0001", "w0002")
    driver.step(10, "w0001", "w0002")
    told = [
        ev.Held(worker, driver.run.generation, 10, 14, f"{worker}:2", share=(rank, 3))
        for rank, worker in enumerate(("w0001", "w0002"))
    ]
    driver.tell(*told)

    assert "no living worker has some rows" in reason(driver)


def standing_at_the_boundary(driver: Driver) -> Run:
    """The group has run to the end of what is granted, and wants to grow."""
    assert driver.run.reform
    members = driver.run.members
    driver.step(driver.run.granted_end, *members)
    return driver.run


def rows_of(form: act.Form) -> list[dict[str, list[tuple[int, int]]] | None]:
    """By rank, of whom it takes which of twelve rows."""
    found: list[dict[str, list[tuple[int, int]]] | None] = []
    for seat in form.seats:
        if seat.rows is None:
            found.append(None)
            continue
        taken: dict[str, list[tuple[int, int]]] = {}
        for each in seat.rows:
            taken.setdefault(each.holder, []).append(each.span.of(12))
        found.append(taken)
    return found


def join(driver: Driver, **told: Any) -> None:
    """All members have joined."""
    run = driver.run
    driver.tell(*(ev.Joined(ident, run.generation, run.step, **told) for ident in run.members))


def test_planned_growth_moves_rows_from_memory_to_memory_and_waits_for_no_save() -> None:
    driver = divided(count=2, largest=3).training("w0001", "w0002")
    driver.step(10, "w0001", "w0002")
    driver.tell(ev.Room(1))
    driver.warm("w0003")
    run = standing_at_the_boundary(driver)
    assert driver.all(act.Quiesce)
    assert not driver.all(act.Grant)
    hold(driver, run.step, "w0001", "w0002")

    form = driver.only(act.Form)
    assert [seat.state_from for seat in form.seats] == [
        *(StateFrom.OWN, StateFrom.OWN, StateFrom.DONOR)
    ]
    assert rows_of(form) == [{}, {"w0001": [(4, 6)]}, {"w0002": [(8, 12)]}]
    assert (form.donor, form.step) == ("w0001", run.step)
    assert not driver.all(act.FindCheckpoint)
    join(driver, rows=2, size_bytes=80)
    (told,) = [one.event for one in driver.all(act.Note) if one.event.word == "rows_moved"]
    assert told.givers == ("w0001", "w0002")
    assert (told.takers, told.rows, told.size_bytes) == (driver.run.members, 6, 240)


def test_group_that_shrinks_takes_the_rows_of_the_one_that_goes() -> None:
    driver = divided(count=3, smallest=2).training("w0001", "w0002", "w0003")
    members = driver.run.members
    driver.step(10, *members)
    driver.tell(ev.Notice("w0003", "SIGTERM"))
    driver.step(driver.run.granted_end, *members)
    hold(driver, driver.run.step, *members)

    form = driver.only(act.Form)
    assert rows_of(form) == [{"w0002": [(4, 6)]}, {"w0003": [(8, 12)]}]
    assert driver.run.workers["w0003"].rank is None


def three_of_whom_one_is_lost(standby: int = 0, **shape: Any) -> Driver:
    names = ["w0001", "w0002", "w0003", "w0004"][: 3 + standby]
    driver = divided(2, count=3, smallest=1, standby=standby, **shape).training(*names)
    driver.step(10, *names[:3])
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    return driver


def test_loss_of_one_of_two_holders_moves_rows_and_reads_no_checkpoint() -> None:
    driver = three_of_whom_one_is_lost()
    hold(driver, 10, "w0001", "w0003")

    form = driver.only(act.Form)
    assert [seat.state_from for seat in form.seats] == [StateFrom.OWN, StateFrom.OWN]
    # w0001 had blocks 0 and 1 of three, w0003 blocks 2 and 0: both hold all twelve rows now
    assert rows_of(form) == [{"w0003": [(8, 12)]}, {"w0001": [(6, 8), (4, 6)]}]
    assert "finding_checkpoint" not in driver.notes()
    (told,) = [one.event for one in driver.all(act.Note) if one.event.word == "generation"]
    assert (told.state_from, told.redone) == ("donor", 0)
    assert driver.run.incident is not None
    assert driver.run.incident.done == (
        "went on with 2 workers from the live state, with rows of tables from each other"
    )


def test_standby_takes_the_lost_ranks_rows_from_those_who_have_them() -> None:
    driver = three_of_whom_one_is_lost(standby=1)
    hold(driver, 10, "w0001", "w0003")

    form = driver.only(act.Form)
    assert [seat.worker for seat in form.seats] == ["w0001", "w0004", "w0003"]
    assert rows_of(form) == [{}, {"w0001": [(4, 8)], "w0003": [(8, 12)]}, {}]
    assert form.donor == "w0001"


def test_loss_of_both_holders_of_some_rows_takes_all_back_to_the_checkpoint() -> None:
    driver = three_of_whom_one_is_lost()
    driver.tell(ev.Gone("w0003", ev.Cause.DIED))
    hold(driver, 10, "w0001")

    assert "no living worker has some rows" in reason(driver)


def test_holder_that_lacks_one_run_takes_its_result_before_rows_are_moved() -> None:
    driver = three_of_whom_one_is_lost(standby=1, batches_per_step=2)
    hold(driver, 10, "w0001", takes=True)
    hold(driver, 11, "w0003", gives=True)

    first = driver.only(act.Form)
    assert [seat.worker for seat in first.seats] == ["w0001", "w0003"]
    assert [seat.state_from for seat in first.seats] == [StateFrom.RESULT, StateFrom.OWN]
    assert rows_of(first) == [None, None]
    join(driver)
    assert driver.run.phase is Phase.GATHERING
    assert not driver.all(act.Grant)
    for rank, worker in ((0, "w0001"), (2, "w0003")):
        held = ev.Held(worker, first.generation, 11, 16, f"{worker}:3", gives=True, share=(rank, 3))
        driver.tell(held)

    form = driver.only(act.Form)
    assert len(form.seats) == 3
    assert rows_of(form)[1] == {"w0001": [(4, 8)], "w0003": [(8, 12)]}
    assert (form.step, form.generation) == (11, first.generation + 1)
    join(driver)
    assert "training" in driver.notes()


def test_holder_that_lacks_a_run_for_good_gives_no_rows() -> None:
    driver = three_of_whom_one_is_lost()
    hold(driver, 10, "w0001")
    hold(driver, 11, "w0003", gives=True)

    assert "no living worker has some rows" in reason(driver)


def test_rows_of_a_state_that_differs_are_not_moved() -> None:
    driver = three_of_whom_one_is_lost()
    driver.run = replace(driver.run, divergence=True)
    hold(driver, 10, "w0001", "w0003")

    assert driver.all(act.FindCheckpoint)


def test_last_save_needs_each_member_to_hold_the_rows_of_its_rank() -> None:
    driver = divided(count=2).training("w0001", "w0002")
    driver.step(10, "w0001", "w0002")
    run = driver.run
    hold(driver, 10, "w0001", "w0002")
    driver.run = replace(driver.run, members=run.members)
    assert crew.is_complete(driver.run)
    w0001 = replace(driver.run.workers["w0001"], share=(0, 3))
    driver.run = replace(driver.run, workers=driver.run.workers.put(w0001))
    assert not crew.is_complete(driver.run)


def test_growth_with_whole_tables_waits_for_no_save() -> None:
    driver = Driver(count=2, largest=3).training("w0001", "w0002")
    driver.step(10, "w0001", "w0002")
    driver.tell(ev.Room(1))
    driver.warm("w0003")
    standing_at_the_boundary(driver)

    assert driver.all(act.Quiesce)


def test_driver_that_takes_over_a_part_of_a_group_goes_back_to_a_checkpoint() -> None:
    driver = divided(count=2, smallest=1)
    report = machine.WorkerReport(
        *("w0001", "node", 1, "a:1", 4, 0, 2, 10, 20, 12),
        held=True,
        joined=False,
        loaded=True,
        share=(0, 2),
    )
    run, actions = machine.adopt(driver.run.policy, [report], None, driver.run.budgets, 4, 3, 0.0)
    held = ev.Held("w0001", 4, 10, 20, "a:1", share=(0, 2))
    run, more = machine.advance(run, held, 0.1)

    assert crew.donor(run) is None
    assert any(isinstance(one, act.FindCheckpoint) for one in (*actions, *more))


def test_member_that_could_not_catch_up_is_seated_among_those_who_did() -> None:
    names = ["w0001", "w0002", "w0003", "w0004"]
    driver = divided(2, count=4, smallest=1, batches_per_step=2).training(*names)
    driver.step(10, *names)
    driver.tell(ev.Gone("w0001", ev.Cause.DIED))
    hold(driver, 10, "w0002", takes=True)
    hold(driver, 10, "w0003")
    hold(driver, 11, "w0004", gives=True)
    first = driver.only(act.Form)
    assert [seat.state_from for seat in first.seats] == [
        *(StateFrom.RESULT, StateFrom.DONOR, StateFrom.OWN)
    ]
    join(driver)
    for worker, share in (("w0002", (1, 4)), ("w0003", None), ("w0004", (3, 4))):
        driver.tell(ev.Held(worker, first.generation, 11, 16, f"{worker}:3", share=share))

    form = driver.only(act.Form)
    assert [seat.worker for seat in form.seats] == ["w0004", "w0002", "w0003"]
    taken = rows_of(form)[2]
    assert taken is not None
    assert sum(end - first for spans in taken.values() for first, end in spans) == 8
    assert set(taken) == {"w0002", "w0004"}


def test_run_that_is_stopped_in_a_loss_brings_all_rows_together_and_saves_them() -> None:
    driver = three_of_whom_one_is_lost()
    driver.tell(ev.StopAsked(ev.StopCause.SIGINT, 300.0))
    hold(driver, 10, "w0001", "w0003")
    form = driver.only(act.Form)
    assert not driver.all(act.Finish)
    assert rows_of(form) == [{"w0003": [(8, 12)]}, {"w0001": [(6, 8), (4, 6)]}]

    join(driver)
    grant = driver.only(act.Grant)
    assert (grant.saves, grant.parts, grant.end) == ((10,), 2, 10)


def test_run_that_is_stopped_after_both_holders_of_some_rows_are_lost_saves_nothing() -> None:
    driver = three_of_whom_one_is_lost()
    driver.tell(ev.Gone("w0003", ev.Cause.DIED), ev.StopAsked(ev.StopCause.SIGINT, 300.0))
    hold(driver, 10, "w0001")

    assert driver.all(act.Finish)
    assert not driver.all(act.Form)


def test_commit_under_way_that_lies_beyond_where_all_go_back_to_saves_nothing_of_the_run() -> None:
    """All ranks had written their rows, and one died before the store had said that it's committed:
    seed 19 of the schedules of changed rows.
    """
    driver = divided(count=2, smallest=1, on_loss="shrink").training("w0001", "w0002")
    driver.step(10, "w0001", "w0002")
    generation = driver.run.generation
    flight = InFlight(
        generation, 10, "w0001", 0.0, committing=True, position=14, writers=("w0001", "w0002")
    )
    driver.run = replace(driver.run, saves=replace(driver.run.saves, in_flight=flight))
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    hold(driver, 10, "w0001")
    assert driver.all(act.FindCheckpoint)
    driver.tell(ev.Found(6, 6, label="a0001-g0001/m-6"))
    assert driver.only(act.Form).step == 6
    driver.tell(ev.Committed(generation, 10, 14))
    assert not driver.run.saves.holds(10, 14)
    assert driver.run.saves.committed != 10
