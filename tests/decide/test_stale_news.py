"""Does what is late, past or lost change what it may, and no more?

Each of these stands for a bug that all other tests let pass when it was planted.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.actions import Outcome, StateFrom
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.phases import Phase
from tests.decide.situation import Driver
from tests.decide.test_saves import written
from tests.simulation.world import policy


def formed_anew(driver: Driver, step: int) -> Driver:
    """After the loss of w0002, whose place w0003 takes."""
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.held(step, "w0001")
    form = driver.only(act.Form)
    driver.tell(*(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats))
    assert driver.run.phase is Phase.TRAINING
    return driver


def group_with_a_standby(**shape: object) -> Driver:
    return Driver(count=2, standby=1, **shape).training("w0001", "w0002").warm("w0003")


def test_word_of_a_stop_in_an_earlier_generation_stops_nobody_in_the_present_one() -> None:
    driver = group_with_a_standby()
    driver.step(4, "w0001", "w0002")
    formed_anew(driver, 4)
    actions = driver.tell(ev.Held("w0001", 1, 4, 2, "a:1", "a word that came late"))
    assert not actions
    assert driver.run.phase is Phase.TRAINING
    assert not driver.run.workers["w0001"].held


def test_save_waits_for_no_checksum_of_a_member_that_was_formed_anew_before_its_step() -> None:
    driver = Driver(count=3, standby=1, save_steps=4).training("w0001", "w0002", "w0003")
    driver.warm("w0004")
    driver.step(4, "w0001", "w0002")
    driver.tell(ev.Gone("w0003", ev.Cause.DIED))
    generation = driver.run.generation
    driver.held(4, "w0001")
    driver.held(3, "w0002")
    driver.tell(written(driver, "w0001", 4, generation=generation))
    assert driver.run.phase is Phase.FORMING
    assert driver.all(act.Commit), "w0002 never copied the state of that step"


def test_save_waits_for_no_checksum_of_a_member_that_is_gone() -> None:
    driver = Driver(count=2, save_steps=4).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.tell(written(driver, "w0001", 4))
    assert driver.run.phase is Phase.GATHERING
    assert driver.all(act.Commit)


def test_commit_of_an_earlier_generation_is_not_one_of_the_save_of_that_step_under_way() -> None:
    """It lies beyond where the present generation took over, so that nothing goes on from it."""
    driver = group_with_a_standby(until=8, save_steps=8)
    driver.step(4, "w0001", "w0002")
    formed_anew(driver, 4)
    driver.step(8, "w0001", "w0003")
    flight = driver.run.saves.in_flight
    assert flight is not None
    assert (flight.generation, flight.step) == (2, 8)
    driver.tell(ev.Committed(1, 8, 10))
    assert driver.run.saves.in_flight == flight
    driver.tell(
        written(driver, "w0001", 8), ev.SaveChecked("w0003", 2, 8, {"v": 1}), ev.Committed(2, 8, 10)
    )
    assert driver.only(act.Finish).outcome is Outcome.DONE


def test_member_that_will_go_gets_a_successor_before_it_goes() -> None:
    driver = Driver(count=2).training("w0001", "w0002")
    driver.tell(ev.Notice("w0002", "SIGTERM"))
    assert [action.worker for action in driver.all(act.StartWorker)] == ["w0003"]


def test_members_that_differed_once_keep_their_own_states_at_the_next_loss() -> None:
    driver = Driver(count=3, smallest=2, save_steps=4).training("w0001", "w0002", "w0003")
    driver.step(4, "w0001", "w0002", "w0003")
    generation = driver.run.generation
    driver.tell(written(driver, "w0001", 4, 1))
    checks = (ev.SaveChecked(w, generation, 4, {"v": 2}, 4) for w in ("w0002", "w0003"))
    driver.tell(*checks)
    driver.held(5, "w0001", "w0002", "w0003")
    repaired = driver.only(act.Form)
    assert [seat.state_from for seat in repaired.seats[1:]] == [StateFrom.DONOR] * 2
    driver.tell(*(ev.Joined(seat.worker, repaired.generation, 5) for seat in repaired.seats))
    driver.step(6, "w0001", "w0002", "w0003")
    driver.tell(ev.Gone("w0003", ev.Cause.DIED))
    driver.held(6, "w0001", "w0002")
    assert [seat.state_from for seat in driver.only(act.Form).seats] == [StateFrom.OWN] * 2


def report(worker: str, rank: int, granted_end: int) -> machine.WorkerReport:
    return machine.WorkerReport(
        *(worker, "n", 1, f"{worker}:1", 1, rank, 2, 10, 20, granted_end),
        held=False,
        joined=True,
        loaded=True,
        granted_position=2 * granted_end,
    )


def test_adopted_members_may_all_run_to_the_highest_end_that_any_was_granted() -> None:
    reports = [report("w0001", 0, 12), report("w0002", 1, 30)]
    run, actions = machine.adopt(policy(2, 400), reports, None, Budgets(9), 1, 3, 0.0)
    grants = [action for action in actions if isinstance(action, act.Grant)]
    assert {grant.workers for grant in grants} == {("w0001", "w0002")}
    assert min(grant.end for grant in grants) >= 30
    assert min(grant.position for grant in grants) >= 60
    assert (run.granted_end, run.granted_position) >= (30, 60)


def test_group_that_waits_at_a_boundary_for_an_earlier_save_has_not_hung() -> None:
    driver = Driver(count=2, when_busy="wait", save_steps=4).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    end = driver.run.granted_end
    assert end < 8, "the next save waits for this one"
    driver.step(end, "w0001", "w0002")
    for moved in range(1, 61):
        done = driver.wait(1.0, *driver.idle("w0001", "w0002", moved_bytes=moved))
        assert not [each for each in done if isinstance(each, act.EndWorker | act.BreakStep)]
    assert driver.run.phase is Phase.TRAINING


def test_save_whose_writer_died_is_made_at_the_next_boundary() -> None:
    driver = group_with_a_standby(save_steps=40)
    driver.step(38, "w0001", "w0002")
    flight = driver.run.saves.in_flight
    assert flight is not None
    driver.step(flight.step, "w0001", "w0002")
    driver.tell(ev.Gone(flight.writer, ev.Cause.DIED))
    assert "save_lost" in driver.notes()
    survivor = next(iter(driver.run.members))
    driver.held(flight.step, survivor)
    form = driver.only(act.Form)
    actions = driver.tell(
        *(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats)
    )
    assert next(grant.saves for grant in actions if isinstance(grant, act.Grant)), (
        "not only 40 steps later"
    )


def test_save_whose_writer_had_not_reached_its_step_is_made_at_the_next_boundary() -> None:
    driver = Driver(count=3, standby=1, save_steps=40).training("w0001", "w0002", "w0003")
    driver.warm("w0004")
    driver.step(38, "w0001", "w0002", "w0003")
    flight = driver.run.saves.in_flight
    assert flight is not None
    stays, goes = (ident for ident in driver.run.members if ident != flight.writer)
    driver.step(flight.step, stays, goes)
    driver.tell(ev.Gone(goes, ev.Cause.DIED))
    driver.held(flight.step, stays)
    driver.held(flight.step - 1, flight.writer)
    form = driver.only(act.Form)
    assert form.step == flight.step
    assert "save_lost" in driver.notes()
    actions = driver.tell(
        *(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats)
    )
    assert next(grant.saves for grant in actions if isinstance(grant, act.Grant))


def test_member_that_says_late_that_it_was_warm_has_one_seat_in_the_next_group() -> None:
    """It told its first driver, and tells it again to the one that adopted it."""
    reports = [
        report("w0001", 0, 12),
        *(standby(report(worker, 0, 0)) for worker in ("w0002", "w0003")),
    ]
    run, actions = machine.adopt(policy(2, 400), reports, None, Budgets(9), 1, 4, 0.0)
    run, actions = machine.advance(run, ev.Held("w0001", 1, 10, 20, "w0001:1", ""), 0.1)
    (form,) = [action for action in actions if isinstance(action, act.Form)]
    assert [seat.worker for seat in form.seats] == ["w0001", "w0002"]
    events: tuple[ev.Event, ...] = (
        ev.Warm("w0002", "n", 1, "w0002:1"),
        *(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats),
        ev.Gone("w0001", ev.Cause.DIED),
        ev.Held("w0002", form.generation, 10, 20, "w0002:1", "lost"),
    )
    for event in events:
        run, actions = machine.advance(run, event, 1.0)
    (form,) = [action for action in actions if isinstance(action, act.Form)]
    assert [seat.worker for seat in form.seats] == ["w0003", "w0002"]


def standby(member: machine.WorkerReport) -> machine.WorkerReport:
    return replace(member, generation=0, rank=None, step=None, granted_end=0, joined=False)
