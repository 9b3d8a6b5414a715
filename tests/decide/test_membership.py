"""Does a worker's loss cost what it must and no more, and is a worker that never comes noticed?"""

from __future__ import annotations

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.actions import Outcome
from orchestrator.decide.budgets import LONGEST_BACKOFF_S, Budgets
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Stage
from orchestrator.decide.rules.deadlines import START_S
from tests.decide.situation import Driver

NOT_LOADED = {"kind": "GraphMismatch", "message": "this TensorFlow doesn't know MyOp"}


def test_member_that_ends_for_good_while_its_group_gathers_ends_the_run_and_not_the_driver() -> (
    None
):
    """``advance`` raised KeyError: the lost one was still a member when the group was looked at."""
    error = {"kind": "UserCodeError", "message": "the input function raised"}
    driver = Driver(count=3).training("w0001", "w0002", "w0003")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.tell(ev.Gone("w0001", ev.Cause.ERROR, "the input function raised", error))
    driver.held(4, "w0003")
    assert driver.only(act.Grant).saves == (4,)
    assert driver.run.ending is not None
    assert driver.run.ending.error == error


def test_input_function_that_raises_while_a_lost_peer_is_dealt_with_ends_the_run_after_a_last_save() -> (
    None
):
    driver = Driver(count=3).training("w0001", "w0002", "w0003")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.tell(
        ev.UserFailed(
            "w0001", 1, 4, {"kind": "UserCodeError", "message": "the input function raised"}
        )
    )
    driver.held(4, "w0001", "w0003")
    assert driver.only(act.Grant).saves == (4,)
    assert driver.run.ending is not None
    assert driver.run.ending.reason == "the input function raised"


def test_planned_reform_is_dropped_when_its_reason_is_gone() -> None:
    """The standby died, and the group was formed anew from 2 to 2 workers "to grow"."""
    driver = Driver(count=2, largest=3).training("w0001", "w0002")
    driver.tell(ev.Room(5))
    driver.warm("w0003")
    assert driver.run.reform == "grow from 2 to 3 workers"
    driver.tell(ev.Gone("w0003", ev.Cause.DIED))
    assert driver.run.reform == ""
    assert "reform_cancelled" in driver.notes()
    end = driver.run.granted_end
    driver.step(end, "w0001", "w0002")
    assert not driver.all(act.Quiesce)
    assert driver.only(act.Grant).end > end, "training goes on"


def test_grant_reaches_less_far_while_the_group_waits_for_a_newcomer() -> None:
    """A replacement that was warm waited for the end of a whole second's grant."""
    driver = Driver(count=2, smallest=1, on_loss="replace").training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.held(5, "w0001")
    driver.tell(ev.Joined("w0001", driver.run.generation, 5))
    assert driver.run.world_size == 1
    assert any(worker.stage is Stage.STARTING for worker in driver.run.workers.values())

    def reach() -> int:
        driver.step(driver.run.granted_end, "w0001")
        return driver.run.granted_end - driver.run.fastest

    assert [reach() for _ in range(3)][-1] == 4, "0.4 s of 0.1 s a step"
    driver.warm("w0003")
    end = driver.run.granted_end
    driver.step(end, "w0001")
    assert driver.run.granted_end == end, "formed anew at the boundary"
    driver.held(end, "w0001")
    form = driver.only(act.Form)
    driver.tell(*(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats))
    driver.step(driver.run.granted_end, "w0001", "w0003")
    assert driver.run.granted_end - driver.run.fastest == 10, "a second, all being there"


def test_planned_handover_lasts_while_the_member_is_still_to_go() -> None:
    driver = Driver(count=2, standby=2).training("w0001", "w0002").warm("w0003", "w0004")
    driver.tell(ev.Notice("w0002", "SIGTERM"))
    driver.tell(ev.Gone("w0003", ev.Cause.DIED))
    assert driver.run.reform == "w0002 is about to go"
    driver.tell(ev.Gone("w0004", ev.Cause.DIED))
    assert driver.run.reform == ""


@pytest.mark.parametrize("error", [None, NOT_LOADED])
def test_standby_that_cannot_load_is_tried_less_and_less_often_and_never_ends_a_group_that_trains(
    error: dict[str, str] | None,
) -> None:
    driver = Driver(count=2, standby=1).training("w0001", "w0002")
    delays, step = [], 3
    for number in range(100):
        victim = next(
            ident for ident, worker in driver.run.workers.items() if worker.stage is Stage.STARTING
        )
        driver.tell(
            ev.Gone(victim, ev.Cause.ERROR, "this TensorFlow doesn't know MyOp", error), after_s=1.0
        )
        delays.append(driver.only(act.StartWorker).delay_s)
        step += 1
        driver.step(step, "w0001", "w0002")
        assert driver.run.ending is None, f"after {number + 1} standbys"
    assert delays[0] == 0
    assert delays[-1] > LONGEST_BACKOFF_S
    assert driver.run.budgets.spent(driver.now_s) == 0, "it isn't paid for from the members' budget"


def test_worker_that_cannot_load_ends_a_run_that_waits_for_it() -> None:
    driver = Driver(count=2).training("w0001", "w0002")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.held(4, "w0001")
    for number in range(3, 6):
        driver.tell(
            ev.Gone(f"w{number:04d}", ev.Cause.ERROR, "this TensorFlow doesn't know MyOp"),
            after_s=20.0,
        )
    assert driver.run.ending is not None
    assert "MyOp" in driver.run.ending.reason
    assert driver.only(act.Grant).saves == (4,)


@pytest.mark.parametrize(("cause", "lost"), [(ev.Cause.NODE, 61), (ev.Cause.DIED, 61)])
def test_rack_that_is_lost_does_not_end_a_run_whose_survivors_hold_the_state(
    cause: ev.Cause, lost: int
) -> None:
    names = [f"w{number:04d}" for number in range(1, 71)]
    driver = Driver(count=70, smallest=1)
    driver.run = _with(driver, Budgets(60))
    driver.training(*names)
    for name in names[:lost]:
        driver.tell(ev.Gone(name, cause, "its node is gone"), after_s=0.1)
    assert driver.run.ending is None
    driver.held(5, *names[lost:])
    assert driver.only(act.Form).step == 5
    assert (
        max(action.delay_s for action in driver.all(act.StartWorker) or [act.StartWorker("none")])
        < LONGEST_BACKOFF_S
    )


def _with(driver: Driver, budgets: Budgets):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(driver.run, budgets=budgets)


@pytest.mark.slow
def test_six_hundred_preemptions_do_not_end_a_run_that_steps_in_between() -> None:
    driver = Driver(count=2, standby=1).training("w0001", "w0002").warm("w0003")
    step = 4
    for number in range(601):
        victim, standby = (
            driver.run.members[1],
            next(w.ident for w in driver.run.workers.values() if w.stage is Stage.WARM),
        )
        driver.tell(ev.Gone(victim, ev.Cause.PREEMPTED, "spot"), after_s=1.0)
        driver.held(step, driver.run.members[0])
        form = driver.only(act.Form)
        assert [seat.worker for seat in form.seats][1] == standby
        driver.tell(*(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats))
        step += 1
        driver.step(step, *driver.run.members)
        driver.warm(f"w{number + 4:04d}")
    assert driver.run.ending is None


def test_worker_that_hangs_while_it_loads_is_replaced() -> None:
    driver = Driver(count=2, standby=1, until=10**6).training("w0001", "w0002")
    loading = ev.Progress("w0003", 0, 0, ev.Doing.LOADING)
    done = driver.train(START_S - 1, loading)
    assert not [action for action in done if isinstance(action, act.EndWorker)], "slow isn't hung"
    done = driver.train(5, loading)
    (ended,) = [action for action in done if isinstance(action, act.EndWorker)]
    assert (ended.worker, ended.cause) == ("w0003", "hung")
    assert "hasn't loaded" in ended.detail
    driver.tell(ev.Gone("w0003", ev.Cause.HUNG, ended.detail))
    assert driver.only(act.StartWorker).worker == "w0004"


def test_worker_that_never_starts_is_asked_for_anew() -> None:
    driver = Driver(count=2, standby=1, wait_s=300.0, until=10**6).training("w0001", "w0002")
    done = driver.train(305)
    (ended,) = [action for action in done if isinstance(action, act.EndWorker)]
    assert (ended.worker, ended.cause) == ("w0003", "released")
    driver.tell(ev.Gone("w0003", ev.Cause.RELEASED, ended.detail))
    assert driver.only(act.StartWorker).worker == "w0004"


def test_run_that_waits_in_vain_says_what_went_wrong_last() -> None:
    driver = Driver(count=2, wait_s=100.0).training("w0001", "w0002")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED, "out of memory"))
    driver.tell(ev.Gone("w0001", ev.Cause.DIED, "out of memory"))
    driver.wait(101.0)
    assert driver.only(act.Finish).outcome is Outcome.FAILED
    assert "no room for 2 workers within 100 s" in driver.reason()
    assert "w0001 was lost (died): out of memory" in driver.reason()


def test_only_workers_of_the_first_group_fetch_the_start_checkpoint() -> None:
    driver = Driver(count=2, standby=1)
    assert [action.stage for action in driver.all(act.StartWorker)] == [True, True, True]
    driver.tell(ev.Gone("w0001", ev.Cause.DIED))
    assert driver.only(act.StartWorker).stage, "nothing has trained yet"
    driver.training("w0002", "w0003")
    driver.tell(ev.Gone("w0003", ev.Cause.DIED))
    assert not driver.only(act.StartWorker).stage, "it gets the state from a member"


def test_pulse_of_a_worker_that_loads_counts_from_when_it_found_its_place() -> None:
    driver = Driver(count=1, wait_s=5000.0)
    driver.wait(START_S * 2)
    assert not driver.all(act.EndWorker), "it waits for room"
    driver.wait(START_S * 0.9, ev.Progress("w0001", 0, 0, ev.Doing.LOADING))
    assert not driver.all(act.EndWorker)
    assert driver.warm("w0001").run.phase is Phase.FORMING


def test_group_that_begins_on_two_nodes_deals_its_ranks_to_them_in_turns() -> None:
    driver = Driver(count=4)
    nodes = {"w0001": "a", "w0002": "a", "w0003": "b", "w0004": "b"}
    driver.tell(*(ev.Warm(worker, node, 1, f"{worker}:1") for worker, node in nodes.items()))
    assert [seat.worker for seat in driver.only(act.Form).seats] == [
        "w0001",
        "w0003",
        "w0002",
        "w0004",
    ]
