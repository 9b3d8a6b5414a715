"""Does every save come to an end, and does what goes wrong with one cost no more than it must?"""

from __future__ import annotations

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.actions import Outcome
from orchestrator.decide.phases import Phase
from orchestrator.decide.progress import SAVE_STILL_S
from orchestrator.decide.rules.saving import DIVERGENCE_LIMIT
from orchestrator.decide.save_under_way import BUSY_S
from tests.decide.situation import Driver


def written(
    driver: Driver,
    worker: str,
    step: int,
    digest: int = 1,
    generation: int | None = None,
    **more: object,
) -> ev.SaveWritten:
    number = driver.run.generation if generation is None else generation
    return ev.SaveWritten(worker, number, step, step, "d", "p", (), {"v": digest}, **more)  # type: ignore[arg-type]


def with_save_under_way(**shape: object) -> Driver:
    """Two members and a standby; the save of step 4 is agreed and copied, and the writer is told
    that it will go.
    """
    driver = (
        Driver(count=2, standby=1, save_steps=4, **shape).training("w0001", "w0002").warm("w0003")
    )
    driver.step(4, "w0001", "w0002")
    assert driver.run.saves.in_flight is not None
    return driver


def handed_over(driver: Driver, leaving: str) -> None:
    """The member hands its rank over at the boundary, while the save is under way."""
    driver.tell(ev.Notice(leaving, "SIGTERM"))
    end = driver.run.granted_end
    driver.step(end, "w0001", "w0002")
    driver.held(end, "w0001", "w0002")
    form = driver.only(act.Form)
    driver.tell(*(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats))
    assert driver.run.phase is Phase.TRAINING
    assert leaving not in driver.run.members


def test_save_is_told_with_every_grant_until_it_is_written() -> None:
    """A grant that was lost, or came late, let its worker run past the step of the save; it copied
    a later one, and the ranks were taken to differ.
    """
    driver = Driver(count=2, save_steps=30).training("w0001", "w0002")
    told: list[act.Grant] = []
    for step in range(3, 30):
        driver.step(step, "w0001", "w0002")
        told += [grant for grant in driver.all(act.Grant) if grant.end >= 30]
    assert len(told) > 1
    assert {(grant.saves, grant.save, grant.writer) for grant in told} == {((30,), 1, "w0001")}
    driver.tell(written(driver, "w0001", 30))
    driver.step(driver.run.granted_end, "w0001", "w0002")
    assert [grant.saves for grant in driver.all(act.Grant)] == [()]


def test_writer_that_is_let_go_stays_until_its_save_is_judged() -> None:
    driver = with_save_under_way()
    handed_over(driver, "w0001")
    assert not driver.all(act.EndWorker), "it still writes"
    driver.tell(ev.Tick(), after_s=0.25)
    assert not driver.all(act.EndWorker), "it still writes"
    driver.tell(ev.SaveChecked("w0002", 1, 4, {"v": 1}), written(driver, "w0001", 4, generation=1))
    assert driver.all(act.Commit)
    assert [action.worker for action in driver.all(act.EndWorker)] == ["w0001"]
    driver.tell(ev.Tick(), after_s=0.25)
    assert not driver.all(act.EndWorker), "it was asked for"
    driver.tell(ev.Tick(), after_s=1.0)
    assert driver.all(act.EndWorker), "a driver that isn't sure of its lease had killed nobody"


def test_save_of_a_counter_that_stepped_over_the_agreed_number_is_committed_at_the_step_it_has() -> (
    None
):
    driver = with_save_under_way()
    driver.step(6, "w0001", "w0002")
    driver.tell(written(driver, "w0001", 6), ev.SaveChecked("w0002", 1, 6, {"v": 1}))
    assert [action.written.step for action in driver.all(act.Commit)] == [6]
    driver.tell(ev.Committed(1, 6))
    assert driver.run.saves.in_flight is None or driver.run.saves.in_flight.step > 6
    assert (driver.run.saves.committed, driver.run.saves.last_step >= 6) == (6, True)


def test_answer_about_an_earlier_save_is_not_taken_for_the_one_under_way() -> None:
    driver = with_save_under_way()
    driver.tell(written(driver, "w0001", 3), ev.SaveChecked("w0002", 1, 3, {"v": 1}))
    assert not driver.all(act.Commit)


def test_writer_that_dies_after_its_rank_has_moved_on_loses_its_save_and_the_next_one_is_agreed() -> (
    None
):
    """The run used to hang: nobody told the save, so no further one was ever agreed."""
    driver = with_save_under_way()
    handed_over(driver, "w0001")
    driver.tell(ev.Gone("w0001", ev.Cause.RELEASED, "killed by its platform"))
    assert "save_lost" in driver.notes()
    assert driver.run.saves.in_flight is None or driver.run.saves.in_flight.generation == 2
    assert driver.run.saves.owed or driver.run.saves.in_flight is not None


def test_checker_that_dies_after_its_rank_has_moved_on_is_waited_for_no_longer() -> None:
    driver = with_save_under_way()
    handed_over(driver, "w0002")
    driver.tell(written(driver, "w0001", 4, generation=1))
    assert not driver.all(act.Commit)
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    assert driver.all(act.Commit)


def test_save_that_moves_is_waited_for_and_one_that_does_not_has_failed() -> None:
    driver = Driver(count=1, save_steps=4, until=4).training("w0001")
    driver.step(4, "w0001")
    assert driver.run.saves.in_flight is not None
    for number in range(4):
        driver.wait(SAVE_STILL_S * 0.8, *driver.idle("w0001", moved_bytes=number), every_s=1.0)
        assert "save_failed" not in driver.notes(), "4 GB or 400: it gets on"
    driver.wait(SAVE_STILL_S * 0.4, *driver.idle("w0001", moved_bytes=3), every_s=1.0)
    failed = [
        action.event.record()
        for action in driver.all(act.Note)
        if action.event.word == "save_failed"
    ]
    assert "nothing has moved in w0001" in failed[0]["reason"]


@pytest.mark.parametrize(("doing", "skipped"), [(ev.Doing.SAVING, False), (ev.Doing.IDLE, True)])
def test_save_that_the_group_stands_still_for_makes_no_later_one_be_skipped(
    doing: ev.Doing, skipped: bool
) -> None:
    """With saves at 8, 16 and 24 and four seconds for each, all but the first were skipped."""
    driver = Driver(count=2, save_steps=4, until=8).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    assert driver.run.saves.in_flight is not None
    driver.wait(10.0, *driver.idle("w0001", "w0002", doing=doing, moved_bytes=1))
    assert ("save_skipped" in driver.notes()) is skipped
    assert driver.run.granted_end == (8 if skipped else 7)
    if not skipped:
        driver.tell(written(driver, "w0001", 4), ev.SaveChecked("w0002", 1, 4, {"v": 1}, 4))
        driver.tell(ev.Committed(1, 4))
        driver.step(5, "w0001", "w0002")
        assert driver.run.saves.in_flight is not None
        assert driver.run.saves.in_flight.step == 8


def test_writer_that_is_busy_has_not_failed_and_is_asked_again() -> None:
    """A driver died during the last save: the next one was refused five times within milliseconds,
    and 200 steps were lost.
    """
    driver = Driver(count=1, save_steps=1000, until=5).training("w0001")
    driver.step(5, "w0001")
    asked = 0
    for _ in range(20):
        assert driver.run.saves.in_flight is not None
        driver.tell(ev.SaveFailed(1, 5, "the worker is still busy with an earlier save", busy=True))
        assert not driver.all(act.Finish)
        asked += len(
            [
                action
                for action in driver.wait(BUSY_S + 1.0, *driver.idle("w0001"))
                if isinstance(action, act.Grant)
            ]
        )
    assert asked == 20
    driver.tell(written(driver, "w0001", 5))
    driver.tell(ev.Committed(1, 5))
    assert driver.only(act.Finish).outcome is Outcome.DONE


def test_last_save_that_fails_is_tried_again_after_longer_and_longer_waits() -> None:
    """Five tries within milliseconds aren't five tries: an outage of a second cost the last steps."""
    driver = Driver(count=1, save_steps=1000, until=5).training("w0001")
    driver.step(5, "w0001")
    began_s = driver.now_s
    for _ in range(driver.rules.saving.max_failed):
        while driver.run.saves.in_flight is None:
            driver.tell(*driver.idle("w0001"), ev.Tick(), after_s=0.25)
        driver.tell(ev.SaveFailed(1, 5, "503"))
    assert driver.only(act.Finish).outcome is Outcome.FAILED
    assert driver.now_s - began_s > 10.0


def test_writer_whose_earlier_save_never_ends_fails_the_save_in_the_end() -> None:
    driver = Driver(count=1, save_steps=1000, until=5).training("w0001")
    driver.step(5, "w0001")
    failed = 0
    for _ in range(2000):
        if driver.run.phase is Phase.ENDED:
            break
        driver.tell(ev.SaveFailed(1, 5, "busy", busy=True))
        failed += driver.notes().count("save_failed")
        driver.wait(2.0, *driver.idle("w0001"))
    assert driver.run.phase is Phase.ENDED
    assert driver.now_s > SAVE_STILL_S


def test_ranks_that_differ_again_and_again_end_the_run_with_what_differs_and_a_last_save() -> None:
    """Nothing was committed until the end, and nobody was told."""
    driver = Driver(count=2, save_steps=1).training("w0001", "w0002")
    for number in range(DIVERGENCE_LIMIT):
        step = differ(driver)
        assert ("give_up" in driver.notes()) is (number == DIVERGENCE_LIMIT - 1)
        driver.held(step, "w0001", "w0002")
        for form in driver.all(act.Form):
            driver.tell(
                *(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats)
            )
    grant = driver.only(act.Grant)
    assert (grant.workers, grant.saves) == (("w0001",), (step,)), "rank 0's state is the run's"
    driver.tell(written(driver, "w0001", step))
    driver.tell(ev.Committed(driver.run.generation, step))
    assert driver.only(act.Finish).outcome is Outcome.FAILED
    assert f"differed at {DIVERGENCE_LIMIT} saves in a row, in v" in driver.reason()


def test_ranks_that_differ_once_in_a_while_train_on() -> None:
    driver = Driver(count=2, save_steps=1).training("w0001", "w0002")
    for _ in range(DIVERGENCE_LIMIT + 2):
        step = differ(driver)
        driver.held(step, "w0001", "w0002")
        form = driver.only(act.Form)
        driver.tell(*(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats))
        flight = driver.run.saves.in_flight
        assert flight is not None
        driver.step(flight.step, "w0001", "w0002")
        driver.tell(
            written(driver, "w0001", flight.step),
            ev.SaveChecked("w0002", driver.run.generation, flight.step, {"v": 1}),
        )
        driver.tell(ev.Committed(driver.run.generation, flight.step))
    assert driver.run.ending is None


def differ(driver: Driver) -> int:
    """Train up to the save that is agreed, and let the ranks differ there; its step."""
    flight = driver.run.saves.in_flight
    assert flight is not None
    driver.step(flight.step, "w0001", "w0002")
    checked = ev.SaveChecked("w0002", driver.run.generation, flight.step, {"v": 2})
    driver.tell(written(driver, "w0001", flight.step), checked)
    assert "save_refused" in driver.notes()
    return flight.step


def test_last_save_in_doubt_that_turns_out_to_be_committed_ends_the_run() -> None:
    driver = Driver(count=1, until=4).training("w0001")
    driver.step(4, "w0001")
    driver.tell(written(driver, "w0001", 4))
    assert driver.all(act.Commit)
    driver.tell(ev.SaveFailed(1, 4, "503"))
    assert driver.run.saves.failed == 1
    driver.tell(ev.Committed(1, 4, 2))
    assert driver.only(act.Finish).outcome is Outcome.DONE
    assert driver.run.saves.failed == 0


def test_commit_that_is_settled_once_the_run_turns_to_an_older_checkpoint_ends_nothing() -> None:
    """The run goes on without it: what its lineage holds has to be saved again."""
    driver = Driver(count=1, until=4).training("w0001")
    driver.step(4, "w0001")
    driver.tell(written(driver, "w0001", 4))
    driver.tell(ev.SaveFailed(1, 4, "503"))
    driver.tell(ev.Gone("w0001", ev.Cause.DIED))
    driver.warm("w0002")
    assert driver.all(act.FindCheckpoint)
    driver.tell(ev.Committed(1, 4, 2))  # the search has missed it
    driver.tell(ev.Found(3, 0, label="m-3"))
    form = driver.only(act.Form)
    assert (form.generation, form.step) == (2, 3)
    driver.tell(ev.Joined("w0002", 2, 3))
    driver.step(4, "w0002")
    assert not driver.all(act.Finish), "step 4 of this generation isn't saved"
    driver.tell(written(driver, "w0002", 4))
    driver.tell(ev.Committed(2, 4))
    assert driver.only(act.Finish).outcome is Outcome.DONE
