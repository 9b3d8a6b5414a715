"""Is a run's end what it says of itself, whoever dies while it saves for the last time?"""

from __future__ import annotations

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.actions import Outcome
from orchestrator.decide.endings import LAST_SAVE_S
from orchestrator.decide.progress import SAVE_STILL_S
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
