"""Does a group that stands at the end of what is granted do what waited for that?"""

from __future__ import annotations

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from tests.decide.situation import Driver


def at_the_last_step() -> Driver:
    """Two members that have finished the last step of the run; the save of it is agreed."""
    driver = Driver(count=2, until=5).training("w0001", "w0002")
    driver.step(5, "w0001", "w0002")
    return driver


def test_last_save_is_of_the_place_where_the_group_stands() -> None:
    driver = at_the_last_step()
    grant = driver.only(act.Grant)
    assert (grant.saves, grant.end, grant.position) == ((5,), 5, driver.run.granted_position)


def test_run_whose_last_step_is_saved_ends_with_that_for_its_reason() -> None:
    driver = at_the_last_step()
    driver.tell(
        ev.SaveWritten("w0001", 1, 5, 4, "d", "p", (), {"v": 1}),
        ev.SaveChecked("w0002", 1, 5, {"v": 1}),
        ev.Committed(1, 5, 4),
    )
    assert driver.reason() == "step 5 is reached"


def test_last_save_that_failed_is_tried_again_as_soon_as_its_wait_is_over() -> None:
    driver = at_the_last_step()
    driver.tell(ev.SaveFailed(1, 5, "503"))
    again_s = driver.run.saves.again_s
    driver.now_s = again_s - 0.25
    driver.tell(*driver.idle("w0001", "w0002"), ev.Tick())
    assert driver.run.saves.in_flight is None
    driver.now_s = again_s
    driver.tell(*driver.idle("w0001", "w0002"), ev.Tick())
    assert driver.only(act.Grant).saves == (5,)
