"""What does the driver do in the situations that matter most?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.actions import Outcome, StateFrom
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Run
from tests.decide.situation import Driver
from tests.simulation.world import policy


def test_machine_that_replaces_processes_hands_the_live_state_to_fresh_ones() -> None:
    driver = Driver(count=2, standby=1, in_place=False).training("w0001", "w0002").warm("w0003")
    driver.step(4, "w0001", "w0002")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    started = driver.all(act.StartWorker)
    assert [action.worker for action in started] == ["w0004", "w0005"], (
        "nobody of the broken group is counted on"
    )
    assert all(action.standby for action in started), (
        "the GPUs are free only when the state has passed"
    )
    driver.held(5, "w0001")
    assert driver.run.phase is Phase.WAITING
    form = driver.warm("w0004").only(act.Form)
    assert [(seat.worker, seat.state_from) for seat in form.seats] == [
        ("w0003", StateFrom.DONOR),
        ("w0004", StateFrom.DONOR),
    ]
    assert (form.donor, form.release, form.step) == ("w0001", ("w0001",), 5), "no step is lost"


def test_machine_that_replaces_processes_asks_the_next_one_when_the_donor_dies() -> None:
    driver = (
        Driver(count=3, standby=3, in_place=False)
        .training("w0001", "w0002", "w0003")
        .warm("w0004", "w0005", "w0006")
    )
    driver.step(4, "w0001", "w0002", "w0003")
    driver.tell(ev.Gone("w0003", ev.Cause.DIED))
    driver.held(5, "w0001")
    assert driver.held(4, "w0002")
    first = driver.only(act.Form)
    assert first.donor == "w0001"
    driver.tell(ev.Gone("w0001", ev.Cause.DIED))
    driver.tell(
        *(ev.JoinFailed(seat.worker, first.generation, "the donor is gone") for seat in first.seats)
    )
    driver.tell(*(ev.Held(seat.worker, first.generation, None, 0, "a", "") for seat in first.seats))
    second = driver.only(act.Form)
    assert (second.donor, second.release, second.step) == ("w0002", ("w0002",), 4)
    (generation,) = [
        action.event.record()
        for action in driver.all(act.Note)
        if action.event.word == "generation"
    ]
    assert generation["redone"] == 1, "the incident says that a step is done again"


def test_machine_that_replaces_processes_keeps_them_at_a_planned_change() -> None:
    driver = Driver(count=2, standby=1, in_place=False).training("w0001", "w0002").warm("w0003")
    driver.tell(ev.Notice("w0002", "SIGTERM"))
    driver.step(driver.run.granted_end, "w0001", "w0002")
    driver.held(driver.run.granted_end, "w0001", "w0002")
    form = driver.only(act.Form)
    assert [seat.worker for seat in form.seats] == ["w0001", "w0003"]
    assert form.release == ()


def test_machine_incident_that_changes_the_world_size_tells_the_effective_batch() -> None:
    driver = Driver(count=2, smallest=1).training("w0001", "w0002")
    driver.tell(
        *(ev.Progress(worker, 1, 4, ev.Doing.STEP, 10.0, 8) for worker in ("w0001", "w0002"))
    )
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.held(4, "w0001")
    driver.tell(ev.Joined("w0001", 2, 4))
    driver.step(5, "w0001")
    (incident,) = [
        action.event.record() for action in driver.all(act.Note) if action.event.word == "incident"
    ]
    assert (incident["world_size_before"], incident["world_size"], incident["effective_batch"]) == (
        2,
        1,
        8,
    )


def test_machine_begins_with_workers_and_standbys() -> None:
    driver = Driver(count=2, standby=1)
    assert [action.standby for action in driver.all(act.StartWorker)] == [False, False, True]


def test_machine_forms_from_the_checkpoint_when_enough_are_warm() -> None:
    driver = Driver(count=2).warm("w0001")
    assert not driver.all(act.Form)
    form = driver.warm("w0002").only(act.Form)
    assert [(seat.worker, seat.rank, seat.state_from) for seat in form.seats] == [
        ("w0001", 0, StateFrom.CHECKPOINT),
        ("w0002", 1, StateFrom.CHECKPOINT),
    ]
    assert (form.step, form.position, form.donor) == (3, 0, None)


def test_machine_grants_the_first_steps_to_all_ranks_alike() -> None:
    driver = Driver(count=2).training("w0001", "w0002")
    grant = driver.only(act.Grant)
    assert (grant.workers, grant.end) == (("w0001", "w0002"), 5)


def test_machine_survivor_with_the_highest_step_gives_its_state() -> None:
    driver = Driver(count=3, standby=1).training("w0001", "w0002", "w0003").warm("w0004")
    driver.step(4, "w0001", "w0002", "w0003")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    quiesce = driver.only(act.Quiesce)
    assert (quiesce.workers, quiesce.urgent) == (("w0001", "w0003"), True)
    driver.held(4, "w0001")
    driver.held(5, "w0003")
    form = driver.only(act.Form)
    assert form.donor == "w0003"
    assert form.step == 5
    assert [(seat.worker, seat.state_from) for seat in form.seats] == [
        ("w0001", StateFrom.DONOR),
        ("w0004", StateFrom.DONOR),
        ("w0003", StateFrom.OWN),
    ]


def test_machine_waits_for_a_replacement_below_the_smallest_size_and_gives_up_in_the_end() -> None:
    driver = Driver(count=2, wait_s=100.0).training("w0001", "w0002")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    assert driver.only(act.StartWorker).worker == "w0003"
    driver.held(4, "w0001")
    assert driver.run.phase is Phase.WAITING
    for _ in range(150):
        driver.tell(ev.Progress("w0001", 1, 4, ev.Doing.IDLE), ev.Tick(), after_s=1.0)
        if driver.all(act.Grant):
            break
    assert driver.run.ending is not None
    assert driver.only(act.Grant).saves == (4,), "the live state is saved before the end"


def test_machine_silent_member_is_killed_within_its_bound() -> None:
    driver = Driver(count=2, standby=1).training("w0001", "w0002")
    for _ in range(40):
        driver.tell(ev.Progress("w0001", 1, 4, ev.Doing.STEP, 10.0), ev.Tick(), after_s=0.25)
        if driver.all(act.EndWorker):
            break
    ended = driver.only(act.EndWorker)
    assert (ended.worker, ended.cause) == ("w0002", "hung")
    assert driver.now_s <= driver.rules.hang_floor_s


def test_machine_driver_that_was_paused_itself_kills_nobody() -> None:
    driver = Driver(count=2).training("w0001", "w0002")
    driver.tell(ev.Tick())
    driver.tell(ev.Tick(), after_s=60.0)
    assert not driver.all(act.EndWorker)
    assert "driver_paused" in driver.notes()


def test_machine_members_stuck_inside_one_step_have_it_broken_off() -> None:
    driver = Driver(count=2).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    found: list[Any] = []
    for _ in range(40):
        driver.step(4, "w0001", "w0002")
        driver.tell(ev.Tick(), after_s=0.15)
        found += driver.all(act.BreakStep)
    assert [action.worker for action in found] == ["w0001"]


@pytest.mark.parametrize("phase", ["waiting", "forming", "training"])
def test_machine_stop_ends_the_run_whatever_it_is_doing(phase: str) -> None:
    driver = Driver(count=2)
    if phase != "waiting":
        driver.warm("w0001", "w0002")
    if phase == "training":
        driver.tell(*(ev.Joined(worker, 1, 3) for worker in ("w0001", "w0002")))
    driver.tell(ev.StopAsked(ev.StopCause.SIGTERM, 20.0))
    if phase != "training":
        assert driver.only(act.Finish).outcome is Outcome.STOPPED, "nobody has anything to save"
        return
    driver.tell(ev.Tick(), after_s=1.0)
    driver.run = replace(driver.run, ticked_s=driver.now_s + 19.5)
    driver.tell(ev.Tick(), after_s=20.0)
    assert driver.only(act.Finish).outcome is Outcome.STOPPED


def test_machine_stop_while_the_survivors_form_saves_their_state_first() -> None:
    driver = Driver(count=2, standby=1).training("w0001", "w0002").warm("w0003")
    driver.step(4, "w0001", "w0002")
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.held(4, "w0001")
    assert driver.run.phase is Phase.FORMING
    driver.tell(ev.StopAsked(ev.StopCause.SIGTERM, 20.0))
    driver.tell(*(ev.Joined(worker, 2, 4) for worker in ("w0001", "w0003")))
    assert driver.only(act.Grant).saves == (4,)


def test_machine_node_that_drains_hands_its_worker_over_at_the_boundary() -> None:
    driver = Driver(count=2, standby=1).training("w0001", "w0002").warm("w0003")
    driver.tell(ev.Draining(("node-w0002",)))
    assert driver.run.reform
    driver.step(driver.run.granted_end, "w0001", "w0002")
    assert driver.only(act.Quiesce).urgent is False
    driver.held(driver.run.granted_end, "w0001", "w0002")
    assert [seat.worker for seat in driver.only(act.Form).seats] == ["w0001", "w0003"]
    assert driver.run.incident is None


def test_machine_member_that_was_let_go_still_gives_its_state_while_it_lives() -> None:
    """Found by the simulation: the new generation dies before it has formed, and only the one that
    was to leave has the state.
    """
    driver = Driver(count=2, standby=1).training("w0001", "w0002").warm("w0003")
    driver.tell(ev.Notice("w0002", "SIGTERM"))
    driver.step(driver.run.granted_end, "w0001", "w0002")
    driver.held(5, "w0001", "w0002")
    assert driver.run.phase is Phase.FORMING
    driver.tell(ev.Gone("w0001", ev.Cause.DIED), ev.Gone("w0003", ev.Cause.DIED))
    driver.warm("w0004", "w0005")
    form = driver.only(act.Form)
    assert (form.step, form.donor) == (5, "w0002")


def test_machine_grows_when_there_is_room() -> None:
    driver = Driver(count=2, largest=3).training("w0001", "w0002")
    driver.tell(ev.Room(5))
    assert driver.only(act.StartWorker).worker == "w0003"
    driver.warm("w0003")
    assert driver.run.reform == "grow from 2 to 3 workers"


def test_machine_node_that_keeps_failing_is_avoided() -> None:
    driver = Driver(count=2).training("w0001", "w0002")
    for number in range(3):
        victim = driver.run.members[1]
        driver.tell(ev.Gone(victim, ev.Cause.DIED), after_s=20.0)
        driver.held(4 + number, "w0001")
        fresh = f"w{number + 3:04d}"
        avoid = driver.run.budgets.excluded_nodes(driver.now_s)
        driver.tell(ev.Warm(fresh, "node-w0002", 1, "x:1"))
        form = driver.only(act.Form)
        driver.tell(*(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats))
        driver.step(5 + number, *driver.run.members)
    assert avoid == ("node-w0002",)


def test_machine_worker_that_fails_for_all_alike_stops_the_run() -> None:
    driver = Driver(count=2)
    error = {"kind": "GraphMismatch", "message": "no such op"}
    driver.tell(ev.Gone("w0001", ev.Cause.ERROR, "no such op", error))
    assert not driver.all(act.Finish), "one may lie on a bad node"
    driver.tell(ev.Gone("w0002", ev.Cause.ERROR, "no such op", error))
    assert driver.only(act.Finish).error == error
    alone = Driver(count=1)
    alone.tell(ev.Gone("w0001", ev.Cause.ERROR, "no such op", error))
    assert alone.only(act.Finish).error == error


def report(worker: str, rank: int | None, step: int | None, **changes: Any) -> machine.WorkerReport:
    fields: dict[str, Any] = {
        "worker": worker,
        "node": "n",
        "pid": 1,
        "address": f"{worker}:1",
        "generation": 4 if rank is not None else 0,
        "rank": rank,
        "world_size": 2,
        "step": step,
        "position": 0,
        "granted_end": 50,
        "held": False,
        "joined": rank is not None,
        "loaded": True,
    }
    return machine.WorkerReport(**{**fields, **changes})


def adopted(reports: Iterable[machine.WorkerReport]) -> tuple[Run, tuple[act.Action, ...]]:
    return machine.adopt(
        policy(count=2, standby=1, save_steps=1000), list(reports), None, Budgets(5), 6, 9, 100.0
    )


def test_adopt_complete_group_goes_on_without_being_formed_anew() -> None:
    run, actions = adopted(
        [
            report("w0001", 0, 51),
            report("w0002", 1, 52, granted_end=52),
            report("w0003", None, None),
        ]
    )
    assert run.phase is Phase.TRAINING
    assert run.generation == 4
    assert not [
        action for action in actions if isinstance(action, act.Form | act.Quiesce | act.StartWorker)
    ]
    (grant,) = [action for action in actions if isinstance(action, act.Grant)]
    assert grant.end == 54, "the highest end that anybody was granted"


def test_adopt_sends_grants_that_died_with_the_driver_again() -> None:
    """One rank stood at 90, the other waited in its step 91, and was called hung 120 s later."""
    _, actions = machine.adopt(
        policy(count=2, save_steps=1000),
        [report("w0001", 0, 90, granted_end=100), report("w0002", 1, 90, granted_end=90)],
        None,
        Budgets(5),
        6,
        9,
        100.0,
    )
    (grant,) = [action for action in actions if isinstance(action, act.Grant)]
    assert (grant.workers, grant.end) == (("w0001", "w0002"), 100)


def test_adopt_takes_no_state_that_was_rolled_back_from() -> None:
    """A driver died between its decision to roll back and the generation after it."""
    held = [
        report("w0001", 0, 48, held=True, joined=False),
        report("w0002", 1, 48, held=True, joined=False),
    ]
    run, actions = machine.adopt(policy(count=2), held, 40, Budgets(5), 6, 9, 100.0, (45, 4))
    assert [action for action in actions if isinstance(action, act.FindCheckpoint)]
    run, _ = machine.advance(run, ev.Held("w0001", 4, 48, 90, "x:1"), 101.0)
    run, actions = machine.advance(run, ev.Found(40, 80), 102.0)
    (form,) = [action for action in actions if isinstance(action, act.Form)]
    assert (form.step, form.donor) == (40, None)
    assert run.rolled_back_from == 45


@pytest.mark.parametrize("missing", [True, False])
def test_adopt_where_processes_are_replaced_forms_a_part_of_a_group_in_fresh_ones(
    missing: bool,
) -> None:
    """At the end of its grant, where nobody that lives was inside a kernel: seed 339 of the soak."""
    held = [report("w0001", 0, 100, held=True), report("w0002", 1, 100, held=True)]
    run, actions = machine.adopt(
        policy(count=2, smallest=1, in_place=False, save_steps=1000),
        held[:1] if missing else held,
        *(None, Budgets(5), 6, 9, 100.0),
    )
    assert {worker.spent for worker in run.workers.values() if worker.rank is not None} == {missing}
    notes = [action.event.word for action in actions if isinstance(action, act.Note)]
    assert ("processes_used_up" in notes) is missing


def test_adopt_half_a_group_gathers_it_and_uses_no_number_again() -> None:
    run, actions = adopted([report("w0001", 0, 48), report("w0003", None, None)])
    assert [action.workers for action in actions if isinstance(action, act.Quiesce)] == [("w0001",)]
    run, actions = machine.advance(run, ev.Held("w0001", 4, 48, 90, "x:1", ""), 101.0)
    (form,) = [action for action in actions if isinstance(action, act.Form)]
    assert (form.generation, form.step, form.position) == (7, 48, 90)
    assert [seat.worker for seat in form.seats] == ["w0001", "w0003"]
    assert [
        action.worker
        for action in adopted([report("w0001", 0, 48)])[1]
        if isinstance(action, act.StartWorker)
    ] == [
        "w0009",
        "w0010",
    ]


def test_adopt_state_of_an_earlier_generation_is_not_lost() -> None:
    """The old driver died while it formed generation 4: only a worker without a state has heard of
    it.
    """
    newcomer = report("w0003", 1, None, joined=False)
    run, actions = adopted([report("w0001", 0, 48, generation=3), newcomer])
    assert {
        worker for action in actions if isinstance(action, act.Quiesce) for worker in action.workers
    } == {"w0001", "w0003"}
    run, _ = machine.advance(run, ev.Held("w0003", 4, None, 0, "y:1"), 101.0)
    run, actions = machine.advance(run, ev.Held("w0001", 3, 48, 90, "x:1"), 101.0)
    (form,) = [action for action in actions if isinstance(action, act.Form)]
    assert (form.step, form.donor) == (48, "w0001")


def test_machine_after_its_end_does_nothing() -> None:
    driver = Driver(count=2).training("w0001", "w0002")
    driver.tell(ev.Fenced({"kind": "LeaseLost", "message": "attempt 2"}))
    assert driver.only(act.Finish).outcome is Outcome.FAILED
    assert (
        driver.tell(
            ev.Gone("w0001", ev.Cause.DIED), ev.Tick(), ev.StopAsked(ev.StopCause.SIGINT, 1.0)
        )
        == ()
    )


def test_machine_ranks_that_differ_take_rank_0s_state_although_another_is_a_step_ahead() -> None:
    driver = Driver(count=2, save_steps=1).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    driver.tell(
        ev.SaveWritten("w0001", 1, 4, 1, "d", "p", (), {"v": 1}),
        ev.SaveChecked("w0002", 1, 4, {"v": 2}),
    )
    assert "save_refused" in driver.notes()
    driver.held(5, "w0001")
    driver.held(6, "w0002")
    form = driver.only(act.Form)
    assert (form.donor, form.step) == ("w0001", 5)
    assert [(seat.worker, seat.state_from) for seat in form.seats] == [
        ("w0001", StateFrom.OWN),
        ("w0002", StateFrom.DONOR),
    ]


def test_machine_save_whose_commit_is_under_way_survives_its_writer() -> None:
    driver = Driver(count=1, save_steps=1).training("w0001")
    driver.step(4, "w0001")
    driver.tell(ev.SaveWritten("w0001", 1, 4, 1, "d", "p", (), {"v": 1}))
    assert driver.all(act.Commit)
    driver.tell(ev.Gone("w0001", ev.Cause.DIED))
    assert "save_lost" not in driver.notes()
    driver.tell(ev.Committed(1, 4))
    assert driver.run.saves.committed == 4


@pytest.mark.parametrize(
    ("gives", "takes", "position", "wanted"),
    [
        (True, True, 4, StateFrom.RESULT),
        (True, True, 6, StateFrom.DONOR),  # further behind than one step
        (False, True, 4, StateFrom.DONOR),
        (True, False, 4, StateFrom.DONOR),
    ],
)
def test_machine_survivor_that_is_one_run_behind_takes_the_result_where_somebody_can_give_it(
    gives: bool, takes: bool, position: int, wanted: StateFrom
) -> None:
    driver = (
        Driver(count=3, standby=1, batches_per_step=3)
        .training("w0001", "w0002", "w0003")
        .warm("w0004")
    )
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    driver.tell(ev.Held("w0001", 1, 4, 7 - position + 4, "w0001:2", "lost", 8, takes=takes))
    driver.tell(
        ev.Held(
            "w0003",
            1,
            5,
            10 if position == 4 else 12,
            "w0003:2",
            "lost",
            8,
            gives=gives,
            takes=True,
        )
    )
    form = driver.only(act.Form)
    assert {seat.worker: seat.state_from for seat in form.seats} == {
        "w0001": wanted,
        "w0003": StateFrom.OWN,
        "w0004": StateFrom.DONOR,
    }


def test_machine_survivors_within_one_step_differ_by_a_run() -> None:
    driver = Driver(count=2, batches_per_step=2).training("w0001", "w0002")
    driver.tell(ev.Held("w0001", 1, 4, 2, "w0001:2", "lost", 8, runs=1, takes=True))
    driver.tell(ev.Held("w0002", 1, 4, 2, "w0002:2", "lost", 8, runs=2, gives=True))
    form = driver.only(act.Form)
    assert [seat.state_from for seat in form.seats] == [StateFrom.RESULT, StateFrom.OWN]


def test_machine_step_that_is_first_known_after_the_incident_began_is_told_as_redone() -> None:
    driver = Driver(count=2, standby=1).training("w0001", "w0002").warm("w0003")
    driver.step(4, "w0001", "w0002")
    driver.held(4, "w0002")  # a peer is lost; that it has taken the step 5 isn't known yet
    driver.held(5, "w0001")
    assert driver.only(act.Form).donor == "w0001"
    driver.tell(ev.Gone("w0001", ev.Cause.DIED))  # before it could give the step away
    driver.held(4, "w0002")
    form = driver.only(act.Form)
    driver.tell(*(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats))
    driver.step(5, *(seat.worker for seat in form.seats))
    (incident,) = [
        action.event.record() for action in driver.all(act.Note) if action.event.word == "incident"
    ]
    assert incident["steps_redone"] == 1


def test_machine_steps_that_are_lost_twice_are_told_as_often_as_they_are_redone() -> None:
    """Two losses one after the other both told all that the first had cost: of a run on one worker
    whose store had rotted, 78 steps were told and 41 done again.
    """
    driver = Driver(count=1).training("w0001")
    told = []
    for number, step in enumerate((20, 5), 1):
        driver.step(step, f"w{number:04d}")
        driver.tell(ev.Gone(f"w{number:04d}", ev.Cause.DIED))
        driver.warm(f"w{number + 1:04d}").tell(ev.Found(3, 0))
        form = driver.only(act.Form)
        driver.tell(ev.Joined(form.seats[0].worker, form.generation, form.step))
        driver.step(4, f"w{number + 1:04d}")
        told += [note.event.record() for note in driver.all(act.Note)]
    redone = [note["steps_redone"] for note in told if note["event"] == "incident"]
    assert redone == [17, 2]
