"""What if a generation doesn't form: what is tried again, after how long, and with what is the run
ended?
"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.aftermath import Going
from orchestrator.decide.events import Obstacle
from orchestrator.decide.phases import Phase
from orchestrator.decide.recovery import FRUITLESS_LIMIT
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse_all
from tests.decide.situation import Driver


def fail(
    driver: Driver, obstacle: Obstacle, detail: str = "503", error: dict[str, Any] | None = None
) -> None:
    """All members of the generation being formed fail for this reason, and stop."""
    generation, members = driver.run.generation, driver.run.members
    told = [ev.JoinFailed(worker, generation, detail, obstacle, error) for worker in members]
    driver.tell(*told, *(ev.Held(worker, generation, None, 0, f"{worker}:9") for worker in members))


def formed_again(driver: Driver, longest_s: float = 60.0) -> float:
    """Seconds until something is tried again."""
    began_s = driver.now_s
    while not (driver.all(act.Form) or driver.all(act.FindCheckpoint)):
        assert driver.now_s - began_s < longest_s, "it's never tried again"
        driver.tell(*driver.idle(*driver.run.workers), ev.Tick(), after_s=0.25)
    return driver.now_s - began_s


def test_group_that_does_not_form_is_tried_again_after_longer_and_longer_waits_and_its_end_says_why() -> (
    None
):
    driver = Driver(count=2).warm("w0001", "w0002")
    waits = []
    for _ in range(FRUITLESS_LIMIT - 1):
        fail(driver, Obstacle.PASSING, "port 4711 is taken")
        waits.append(formed_again(driver))
    assert waits[0] == 0
    assert waits[1] < waits[3] < waits[5]
    assert sum(waits) > 60, "ten tries within a second are no patience"
    fail(driver, Obstacle.PASSING, "port 4711 is taken")
    assert f"formed {FRUITLESS_LIMIT} times in a row" in driver.reason()
    assert "port 4711 is taken" in driver.reason()


def test_group_that_has_stepped_starts_with_no_wait_again() -> None:
    driver = Driver(count=1).warm("w0001")
    for _ in range(3):
        fail(driver, Obstacle.PASSING)
        formed_again(driver)
    driver.tell(ev.Joined("w0001", driver.run.generation, 3))
    driver.step(4, "w0001")
    assert driver.run.join_failures == 0


def test_misfit_ends_the_run_at_once_with_that_very_error() -> None:
    """It was tried ten times, and the reason stood in the journal only."""
    driver = Driver(count=2).warm("w0001", "w0002")
    error = {
        "kind": "GraphMismatch",
        "message": "hidden/kernel has shape [6, 16], the checkpoint [2, 16]",
    }
    fail(driver, Obstacle.MISFIT, error["message"], error)
    finish = driver.only(act.Finish)
    assert finish.error == error
    assert "hidden/kernel" in finish.reason


def test_end_does_not_wait_for_those_that_still_fetch_what_nobody_needs_any_more() -> None:
    driver = Driver(count=2).warm("w0001", "w0002")
    driver.tell(*driver.idle("w0002", doing=ev.Doing.STAGING))
    error = {"kind": "GraphMismatch", "message": "w has another shape"}
    driver.tell(
        ev.JoinFailed("w0001", driver.run.generation, error["message"], Obstacle.MISFIT, error)
    )
    assert driver.only(act.Finish).error == error


def test_stop_while_the_first_checkpoint_is_fetched_ends_the_run_at_once() -> None:
    driver = Driver(count=1).warm("w0001")
    driver.tell(ev.StopAsked(ev.StopCause.REQUEST, 120.0))
    assert driver.only(act.Finish).stop_cause is None


def test_store_that_is_down_is_waited_for_and_named_in_the_end() -> None:
    driver = Driver(count=1, wait_s=300.0).warm("w0001")
    error = {"kind": "StorageUnavailable", "message": "s3://b/m-5.index: 503"}
    forms = 0
    while driver.run.phase is not Phase.ENDED:
        fail(driver, Obstacle.STORE, error["message"], error)
        if driver.run.phase is not Phase.ENDED:  # type: ignore[comparison-overlap]
            formed_again(driver)
            forms += 1
    assert driver.now_s > 300.0
    assert forms > FRUITLESS_LIMIT, "the store's outage isn't the group's fault"
    assert driver.only(act.Finish).error == error
    assert "s3://b/m-5.index: 503" in driver.reason()


def test_store_that_comes_back_is_gone_on_with() -> None:
    driver = Driver(count=1, wait_s=300.0).warm("w0001")
    for _ in range(FRUITLESS_LIMIT):
        fail(driver, Obstacle.STORE)
        formed_again(driver)
    driver.tell(ev.Joined("w0001", driver.run.generation, 3))
    assert driver.run.phase is Phase.TRAINING
    assert driver.run.store_down_s is None


def found(driver: Driver, step: int, label: str) -> None:
    driver.tell(ev.Found(step, 0, label=label))


def test_checkpoint_that_is_gone_is_looked_for_anew() -> None:
    """Retention had removed it while it was being fetched; it was tried ten times."""
    driver = Driver(count=1).warm("w0001")
    fail(driver, Obstacle.MISSING, "model.ckpt-3.index doesn't exist")
    assert driver.only(act.FindCheckpoint).exclude == {}
    found(driver, 7, "a0001-g0001/model.ckpt-7")
    assert driver.only(act.Form).step == 7


def test_checkpoint_that_two_formations_found_damaged_is_not_taken_again() -> None:
    driver = Driver(count=2)
    driver.run = _origin(driver, "m-3")
    driver.warm("w0001", "w0002")
    fail(driver, Obstacle.DAMAGED, "w: checksum")
    assert driver.only(act.FindCheckpoint).exclude == {}, "it may have been the node's copy"
    found(driver, 3, "m-3")
    fail(driver, Obstacle.DAMAGED, "w: checksum")
    assert "checkpoint_bad" in driver.notes()
    formed_again(driver)
    assert driver.run.phase is Phase.FINDING
    assert dict(driver.run.bad) == {"m-3": "w: checksum"}
    assert driver.only(act.FindCheckpoint).exclude == {"m-3": "w: checksum"}


def _origin(driver: Driver, label: str) -> Any:
    from dataclasses import replace

    return replace(driver.run, origin=ev.Found(3, 0, label=label))


def test_search_that_the_store_does_not_answer_is_repeated_and_ends_by_naming_it() -> None:
    driver = Driver(count=1, wait_s=200.0).warm("w0001")
    fail(driver, Obstacle.MISSING)
    error = {"kind": "StorageUnavailable", "message": "s3://b: timed out"}
    searches = 0
    while driver.run.phase is not Phase.ENDED:
        driver.tell(ev.Found(None, detail=error["message"], error=error, passing=True))
        if driver.run.phase is not Phase.ENDED:  # type: ignore[comparison-overlap]
            formed_again(driver)
            searches += 1
    assert searches > 5
    assert driver.only(act.Finish).error == error


def test_search_that_finds_nothing_ends_the_run() -> None:
    driver = Driver(count=1).warm("w0001")
    fail(driver, Obstacle.MISSING)
    driver.tell(ev.Found(None, detail="the directory is empty"))
    assert "the directory is empty" in driver.reason()


# -- rolling back


def nonfinite(driver: Driver, step: int) -> None:
    driver.tell(
        ev.SaveWritten("w0001", driver.run.generation, step, step, "d", "p", (), {"v": 1}, ("w",))
    )


def rolled(driver: Driver) -> None:
    """Train up to the save that is agreed, find NaN there, and stand still."""
    flight = driver.run.saves.in_flight
    assert flight is not None
    driver.step(flight.step, "w0001")
    nonfinite(driver, flight.step)
    driver.held(flight.step, *driver.run.members)


def test_roll_back_that_meets_nan_again_before_it_is_past_the_place_ends_the_run() -> None:
    """With saves at other steps, or another disturbance in between, it went on for ever."""
    driver = Driver(count=1, save_steps=2, on_nonfinite="rollback").training("w0001")
    driver.step(5, "w0001")
    rolled(driver)
    assert "rolling_back" in driver.notes()
    found(driver, 3, "m-3")
    driver.tell(ev.Joined("w0001", driver.run.generation, 3))
    driver.tell(ev.Held("w0001", driver.run.generation, 3, 0, "x:1", "peer lost"))
    driver.tell(ev.Joined("w0001", driver.run.generation, 3))
    flight = driver.run.saves.in_flight
    assert flight is not None
    driver.step(flight.step, "w0001")
    nonfinite(driver, flight.step)
    assert "not finite" in driver.reason()


def test_roll_back_takes_nobodys_state_not_even_that_of_a_member_that_was_let_go() -> None:
    driver = (
        Driver(count=2, standby=1, save_steps=2, on_nonfinite="rollback")
        .training("w0001", "w0002")
        .warm("w0003")
    )
    driver.tell(ev.Notice("w0002", "SIGTERM"))
    end = driver.run.granted_end
    driver.step(end, "w0001", "w0002")
    driver.held(end, "w0001", "w0002")
    form = driver.only(act.Form)
    assert driver.run.workers["w0002"].step == end
    driver.tell(*(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats))
    driver.run = _rolling_back(driver, end)
    driver.held(end, *driver.run.members)
    assert driver.all(act.FindCheckpoint)
    found(driver, 3, "m-3")
    again = driver.only(act.Form)
    assert (again.step, again.donor) == (3, None)


def test_roll_back_state_that_a_member_still_offers_when_the_checkpoint_could_not_be_read_is_not_taken() -> (
    None
):
    driver = Driver(count=1, save_steps=2, on_nonfinite="rollback").training("w0001")
    rolled(driver)
    found(driver, 3, "m-3")
    driver.tell(ev.JoinFailed("w0001", driver.run.generation, "503", Obstacle.STORE))
    driver.tell(ev.Held("w0001", driver.run.generation, 6, 6, "x:1"))
    form = driver.only(act.Form)
    assert (form.step, form.donor) == (3, None)
    driver.tell(ev.Joined("w0001", form.generation, 3))
    driver.step(4, "w0001")
    driver.tell(ev.Held("w0001", form.generation, 5, 5, "x:1", "peer lost"))
    assert driver.only(act.Form).step == 5, "what it has trained since counts"


def _rolling_back(driver: Driver, step: int) -> Any:
    from dataclasses import replace

    return replace(driver.run, rolling_back=True, rolled_back_from=step)


def test_rolled_back_is_what_an_earlier_drivers_journal_says() -> None:
    events: list[dict[str, Any]] = [
        {"event": "save_committed", "step": 100},
        {"event": "rolling_back", "step": 150, "generation": 4},
        {"event": "generation", "generation": 5, "step": 100},
    ]
    assert folded(Going, parse_all(events)).rolled_back == (150, 4)
    assert folded(
        Going, parse_all([*events, {"event": "save_committed", "step": 120}])
    ).rolled_back == (150, 4)
    assert folded(
        Going, parse_all([*events, {"event": "save_committed", "step": 200}])
    ).rolled_back == (None, 4)
    assert folded(Going, []).rolled_back == (None, 0)


@pytest.mark.parametrize("obstacle", list(Obstacle))
def test_failed_join_while_the_group_gathers_already_changes_nothing_but_the_journal(
    obstacle: Obstacle,
) -> None:
    driver = Driver(count=2).warm("w0001", "w0002")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.tell(ev.JoinFailed("w0001", driver.run.generation, "x", obstacle))
    assert driver.notes() == ["join_failed"]
    assert driver.run.ending is None
