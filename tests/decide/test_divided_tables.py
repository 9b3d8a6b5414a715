"""Whose state goes on where each member holds rows that nobody else has?

Rule: each member's own, where every rank is as it was; else all read a checkpoint, and what is
planned is saved for before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import immutables
import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import crew, machine
from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Run
from tests.decide.situation import Driver


def divided(**shape: Any) -> Driver:
    driver = Driver(**shape)
    saving = replace(driver.rules.saving, in_parts=True)
    driver.run = replace(driver.run, policy=replace(driver.run.policy, saving=saving))
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

    assert "divided anew" in reason(driver)


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

    assert "divided anew" in reason(driver)


def standing_at_the_boundary(driver: Driver) -> Run:
    """The group has run to the end of what is granted, and wants to grow."""
    assert driver.run.reform
    members = driver.run.members
    driver.step(driver.run.granted_end, *members)
    return driver.run


def test_planned_growth_is_saved_for_before_rows_change_hands() -> None:
    driver = divided(count=2, largest=3).training("w0001", "w0002")
    driver.step(10, "w0001", "w0002")
    driver.tell(ev.Room(1))
    driver.warm("w0003")
    run = standing_at_the_boundary(driver)
    grant = driver.only(act.Grant)
    assert grant.saves == (run.step,)
    assert not driver.all(act.Quiesce)
    assert run.phase is Phase.TRAINING

    flight = run.saves.in_flight
    assert flight is not None
    saves = replace(run.saves, in_flight=None, committed=run.step, committed_position=run.position)
    driver.run = replace(run, saves=saves, written=None, expected=immutables.Map())
    driver.tell(ev.Tick(), after_s=0.25)
    assert driver.all(act.Quiesce)
    hold(driver, run.step, "w0001", "w0002")
    assert "divided anew" in reason(driver)
    driver.tell(ev.Found(run.step, run.position))
    form = driver.only(act.Form)
    assert (len(form.seats), form.step) == (3, run.step)


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
