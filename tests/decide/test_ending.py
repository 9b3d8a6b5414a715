"""Is a run's end what it says of itself, whoever dies while it saves for the last time?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import crew
from orchestrator.decide import events as ev
from orchestrator.decide.actions import Outcome
from orchestrator.decide.endings import LAST_SAVE_S
from orchestrator.decide.phases import Phase
from orchestrator.decide.progress import SAVE_STILL_S
from orchestrator.decide.recovery import FRUITLESS_LIMIT
from orchestrator.decide.rules import ending
from orchestrator.decide.run import Ending, Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver


def ended(step: int = 6) -> Driver:
    """Two members whose input has ended after that step, and stand still."""
    driver = Driver(count=2).training("w0001", "w0002")
    driver.step(step, "w0001", "w0002")
    driver.tell(ev.DataEnded("w0002", driver.run.generation, step))
    driver.held(step, "w0001", "w0002")
    assert driver.run.saves.in_flight is not None
    return driver


def died(*workers: str) -> list[ev.Event]:
    return [ev.Gone(worker, ev.Cause.DIED) for worker in workers]


def test_end_of_data_whose_last_steps_died_with_everybody_is_none() -> None:
    driver = ended()
    driver.tell(*died("w0001", "w0002"))
    assert not driver.all(act.Finish)
    assert driver.all(act.StartWorker)
    assert driver.run.ending is None


def test_end_of_data_whose_last_step_a_survivor_lacks_is_none() -> None:
    driver = Driver(count=2).training("w0001", "w0002")
    driver.step(6, "w0001", "w0002")
    driver.tell(ev.DataEnded("w0002", driver.run.generation, 7), *died("w0002"))
    driver.held(6, "w0001")
    assert not driver.all(act.Finish)
    assert driver.run.ending is None


def test_end_of_data_that_a_survivor_can_save_is_saved() -> None:
    driver = ended()
    writer = driver.run.saves.in_flight
    assert writer is not None
    driver.tell(*died(writer.writer))
    assert driver.run.ending is not None
    (grant,) = driver.all(act.Grant)
    assert grant.saves == (6,)


def test_end_of_data_that_is_saved_is_one_though_everybody_dies() -> None:
    driver = ended()
    generation, flight = driver.run.generation, driver.run.saves.in_flight
    assert flight is not None
    driver.tell(
        ev.SaveWritten(flight.writer, generation, 6, 6, "d", "p", (), {"v": 1}),
        ev.Committed(generation, 6, 6),
    )
    assert driver.only(act.Finish).outcome is Outcome.END_OF_DATA


def test_end_of_data_whose_save_is_being_committed_waits_for_that() -> None:
    driver = ended()
    generation, flight = driver.run.generation, driver.run.saves.in_flight
    assert flight is not None
    driver.tell(ev.SaveWritten(flight.writer, generation, 6, 6, "d", "p", (), {"v": 1}))
    assert driver.all(act.Commit)
    driver.tell(*died("w0001", "w0002"))
    assert not driver.all(act.Finish)
    assert not driver.all(act.StartWorker)
    driver.tell(ev.Committed(generation, 6, 6))
    assert driver.only(act.Finish).outcome is Outcome.END_OF_DATA


@pytest.mark.parametrize("kind", ["LeaseLost", "RecoveryExhausted"])
def test_incident_under_way_is_told_at_the_end_unless_who_follows_will_tell_it(kind: str) -> None:
    driver = Driver(count=2).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    driver.tell(*died("w0002"))
    assert driver.run.incident is not None
    driver.tell(ev.Fenced({"kind": kind, "message": "it ends"}))
    assert driver.only(act.Finish).outcome is Outcome.FAILED
    assert ("incident" in driver.notes()) is (kind != "LeaseLost")


def out_of_time(driver: Driver) -> act.Finish:
    """The end of a driver whose members stand still while nothing is written."""
    driver.wait(1 + max(LAST_SAVE_S, SAVE_STILL_S), *driver.idle("w0001", "w0002"))
    assert "deadline" in driver.notes()
    finish = driver.only(act.Finish)
    assert isinstance(finish, act.Finish)
    return finish


def test_end_of_data_that_is_not_saved_in_time_is_told_as_a_failure() -> None:
    finish = out_of_time(ended())
    assert finish.outcome is Outcome.FAILED
    assert "no save of that step was made" in finish.reason
    assert finish.error is not None
    assert finish.error["kind"] == "StorageUnavailable"


def test_stop_that_was_asked_for_at_an_end_of_data_that_is_not_saved_in_time_counts() -> None:
    driver = ended()
    driver.tell(ev.StopAsked(ev.StopCause.SIGTERM, 60.0))
    finish = out_of_time(driver)
    assert (finish.outcome, finish.stop_cause) == (Outcome.STOPPED, "SIGTERM")


def test_stop_that_is_not_saved_in_time_stays_one() -> None:
    driver = Driver(count=2).training("w0001", "w0002")
    driver.step(6, "w0001", "w0002")
    driver.tell(ev.StopAsked(ev.StopCause.REQUEST, 60.0))
    driver.held(6, "w0001", "w0002")
    assert out_of_time(driver).outcome is Outcome.STOPPED


def test_save_that_the_end_does_not_wait_for_is_told_to_be_cancelled() -> None:
    driver = Driver(count=2, save_steps=8).training("w0001", "w0002")
    driver.step(6, "w0001", "w0002")
    assert driver.run.saves.in_flight is not None
    driver.tell(ev.Fenced({"kind": "LeaseLost", "message": "attempt 2 took over"}))
    told = driver.notes()
    assert told.index("save_cancelled") < told.index("finish")
    assert driver.all(act.Note)[told.index("save_cancelled")].event.record()["reason"] == (
        "the run ends before it's written"
    )


@pytest.mark.parametrize("cause", list(ev.StopCause))
def test_stop_that_was_asked_for_at_the_end_of_data_holds_where_that_is_lost(
    cause: ev.StopCause,
) -> None:
    driver = ended()
    driver.tell(ev.StopAsked(cause, 60.0), *died("w0001", "w0002"))
    assert driver.only(act.Finish).outcome is Outcome.STOPPED


def test_save_that_was_agreed_for_after_the_end_is_told_to_be_cancelled() -> None:
    driver = Driver(count=2, save_steps=8).training("w0001", "w0002")
    driver.step(6, "w0001", "w0002")
    flight = driver.run.saves.in_flight
    assert flight is not None
    assert flight.step == 8
    driver.tell(ev.DataEnded("w0002", driver.run.generation, 6))
    driver.held(6, "w0001", "w0002")
    told = driver.notes()
    assert told.index("save_cancelled") < told.index("save_agreed")
    assert driver.all(act.Note)[told.index("save_cancelled")].event.record()["reason"] == (
        "the run ends before that step"
    )


def gathered(*steps: int | None, **facts: Any) -> Run:
    """A run that is to end, whose members stand still at these steps."""
    idents = [f"w{number:04d}" for number in range(1, len(steps) + 1)]
    driver = Driver(count=len(steps)).training(*idents)
    how = Ending(Outcome.STOPPED, "stopped", 1000.0)
    workers = driver.run.workers.put_all(
        replace(driver.run.workers[ident], held=True, step=step, position=2 * (step or 0))
        for ident, step in zip(idents, steps, strict=True)
    )
    found = replace(driver.run, phase=Phase.GATHERING, ending=how, workers=workers)
    return replace(found, **facts)


def decided(run: Run, now_s: float = 100.0) -> Turn:
    turn = Turn(run, now_s)
    ending.end(turn)
    return turn


def test_last_save_is_of_the_highest_state_unless_the_ranks_differed() -> None:
    for differing, saved in ((False, ("w0002", (7,))), (True, ("w0001", (6,)))):
        turn = decided(gathered(6, 7, divergence=differing))
        (grant,) = [each for each in turn.actions if isinstance(each, act.Grant)]
        assert (grant.writer, grant.saves) == saved
        assert turn.run.place == (saved[1][0], 2 * saved[1][0])


def test_last_save_is_a_full_one_though_others_hold_changed_rows_only() -> None:
    run = gathered(6, 6)
    saves = replace(run.saves, ground=1, links=1, committed=5)
    rows = replace(run.policy.saving, most_links=4)
    turn = decided(replace(run, saves=saves, policy=replace(run.policy, saving=rows)))
    assert [each.over for each in turn.actions if isinstance(each, act.Grant)] == [0]


def test_end_is_told_with_its_outcome_and_the_step_that_is_saved() -> None:
    run = gathered(6, 6)
    (told,) = [
        each.event.record()
        for each in decided(replace(run, saves=replace(run.saves, committed=6))).actions
        if isinstance(each, act.Note)
    ]
    assert {name: told[name] for name in ("outcome", "reason", "step", "checkpoint_step")} == {
        "outcome": "stopped",
        "reason": "stopped",
        "step": 6,
        "checkpoint_step": 6,
    }


def test_run_that_ends_before_its_step_saves_that() -> None:
    turn = decided(gathered(0))
    assert [each.saves for each in turn.actions if isinstance(each, act.Grant)] == [(0,)]


def test_run_whose_highest_state_is_saved_ends_with_the_step_of_that() -> None:
    run = gathered(6, 7)
    saves = replace(run.saves, committed=7, committed_position=run.workers["w0002"].position)
    (finish,) = [
        each for each in decided(replace(run, saves=saves)).actions if isinstance(each, act.Finish)
    ]
    assert finish.step == 7


def test_last_save_of_members_that_stand_still_is_tried_again_after_its_wait() -> None:
    run = gathered(6, 6)
    waits = replace(run, saves=replace(run.saves, failed=1, again_s=101.0))
    assert not decided(waits).actions
    assert [each.saves for each in decided(waits, 101.0).actions if isinstance(each, act.Grant)]


def handing_over() -> Driver:
    """The only member has handed its rank over, and its successor couldn't take the state yet when
    the run is told to stop.
    """
    driver = Driver(count=1, standby=1).training("w0001").warm("w0002")
    driver.tell(ev.Notice("w0001", "SIGTERM"))
    end = driver.run.granted_end
    driver.step(end, "w0001")
    driver.held(end, "w0001")
    assert driver.run.members == ("w0002",)
    driver.tell(ev.StopAsked(ev.StopCause.SIGTERM, 60.0))
    driver.tell(ev.JoinFailed("w0002", driver.run.generation, "the donor didn't answer"))
    driver.tell(ev.Held("w0002", driver.run.generation, None, 0, "w0002:2", ""))
    return driver


def test_state_that_only_a_member_has_whose_rank_moved_on_is_taken_over_and_saved() -> None:
    """It was lost with all steps since the last checkpoint, though its holder was alive."""
    driver = handing_over()
    step = driver.run.workers["w0001"].step
    form = driver.only(act.Form)
    assert (form.donor, form.step) == ("w0001", step)
    driver.tell(ev.Joined("w0002", form.generation, form.step))
    assert driver.only(act.Grant).saves == (step,)
    position = driver.run.position
    driver.tell(
        ev.SaveWritten("w0002", form.generation, form.step, position, "d", "p", (), {"v": 1}),
        ev.Committed(form.generation, form.step, position),
    )
    assert driver.only(act.Finish).outcome is Outcome.STOPPED
    assert driver.run.saves.committed == step


def test_survivor_that_has_a_whole_state_saves_it_without_forming_a_group_first() -> None:
    driver = Driver(count=2, smallest=1).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    driver.tell(*died("w0002"), ev.StopAsked(ev.StopCause.SIGTERM, 60.0))
    driver.held(4, "w0001")
    assert driver.only(act.Grant).saves == (4,)
    assert not driver.all(act.Form)
    assert not crew.forms_to_save(driver.run)


def test_state_that_nobody_can_take_over_in_the_end_is_not_waited_for() -> None:
    run = handing_over().run
    tried = replace(run, phase=Phase.GATHERING, fruitless=FRUITLESS_LIMIT)
    held = tried.workers.put(replace(tried.workers["w0002"], held=True))
    turn = decided(replace(tried, workers=held))
    assert [each for each in turn.actions if isinstance(each, act.Finish)]


def test_run_that_ends_with_the_last_one_who_has_a_state_ends_unsaved() -> None:
    driver = handing_over()
    driver.tell(ev.Gone("w0001", ev.Cause.PREEMPTED))
    assert driver.only(act.Finish).outcome is Outcome.STOPPED


def test_end_of_data_after_the_first_step_is_none_where_that_step_died_with_everybody() -> None:
    how = Ending(Outcome.END_OF_DATA, "the input ended", 1000.0, last_step=1)
    turn = decided(gathered(None, ending=how))
    assert turn.run.ending is None
    assert not turn.actions
