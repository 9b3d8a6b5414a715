"""Does a group go on when its members have seen one die, before Ray says so?"""

from __future__ import annotations

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.phases import Phase
from orchestrator.decide.rules.staffing import STANDBY_AFTER_S
from orchestrator.journal.worker_events import LossExplained, LossOfWorker
from tests.decide.situation import Driver
from tests.simulation.parts import policy


def held(driver: Driver, worker: str, *dead: int, generation: int = 1) -> ev.Held:
    return ev.Held(worker, generation, 4, 2, f"{worker}:2", "a peer is lost", dead=dead)


def trained(**shape: object) -> Driver:
    driver = Driver(count=2, standby=1, **shape).training("w0001", "w0002").warm("w0003")
    driver.step(4, "w0001", "w0002")
    return driver


def test_member_that_its_peer_saw_die_is_replaced_without_waiting_for_ray() -> None:
    driver = trained()
    driver.tell(held(driver, "w0001", 1))
    assert driver.only(act.AwaitEnd).worker == "w0002"
    form = driver.only(act.Form)
    assert [seat.worker for seat in form.seats] == ["w0001", "w0003"]
    assert form.step == 4
    losses = [item.event for item in driver.all(act.Note) if isinstance(item.event, LossOfWorker)]
    assert [(loss.worker, loss.rank, loss.cause) for loss in losses] == [("w0002", 1, "died")]
    assert len(driver.run.budgets.entries) == 1


@pytest.mark.parametrize("seen", [True, False], ids=["by its peer", "by Ray"])
def test_new_standby_waits_until_the_one_before_it_has_taken_over(seen: bool) -> None:
    """Its import takes the processor that the take-over needs."""
    driver = trained()
    done = driver.tell(*([] if seen else [ev.Gone("w0002", ev.Cause.DIED)]))
    done += driver.tell(held(driver, "w0001", *([1] if seen else [])))
    assert any(isinstance(item, act.Form) for item in done)
    (start,) = [item for item in done if isinstance(item, act.StartWorker)]
    assert start.delay_s >= STANDBY_AFTER_S


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (ev.Gone("w0002", ev.Cause.DIED), []),
        (ev.Gone("w0002", ev.Cause.DIED, "out of memory"), [("died", "out of memory")]),
        (ev.Gone("w0002", ev.Cause.NODE, "its node is gone"), [("node", "its node is gone")]),
    ],
)
def test_word_of_ray_on_who_was_seen_dead_explains_the_loss_and_costs_nothing_more(
    gone: ev.Gone, told: list[tuple[str, str]]
) -> None:
    driver = trained()
    driver.tell(held(driver, "w0001", 1))
    generation = driver.run.generation
    for _ in range(2):  # Ray may say it twice
        driver.tell(gone)
        notes = [item.event for item in driver.all(act.Note)]
        found = [(note.cause, note.reason) for note in notes if isinstance(note, LossExplained)]
        assert found == told
        told = []
    assert (driver.run.phase, driver.run.generation) == (Phase.FORMING, generation)
    assert len(driver.run.budgets.entries) == 1
    assert not driver.run.seen_dead
    assert driver.run.incident is not None
    assert (driver.run.incident.kind, driver.run.incident.detail) == (gone.cause.value, gone.detail)


@pytest.mark.parametrize(("cause", "kind"), [(ev.Cause.DIED, "preempted"), (ev.Cause.NODE, "node")])
def test_preempted_member_that_was_seen_dead_stays_preempted_when_ray_says_that_it_died(
    cause: ev.Cause, kind: str
) -> None:
    driver = trained()
    driver.tell(ev.Notice("w0002", "the node drains"))
    driver.tell(held(driver, "w0001", 1))
    assert driver.run.incident is not None
    assert driver.run.incident.kind == "preempted"
    paid = driver.run.budgets
    driver.tell(ev.Gone("w0002", cause, "killed by SIGKILL", exit_code=-9))
    incident = driver.run.incident
    assert (incident.kind, incident.detail, incident.exit_code) == (kind, "killed by SIGKILL", -9)
    (explained,) = [
        item.event for item in driver.all(act.Note) if isinstance(item.event, LossExplained)
    ]
    assert (explained.cause, explained.exit_code) == (kind, -9)
    assert [entry.cause for entry in paid.entries] == [ev.Cause.PREEMPTED]
    assert driver.run.budgets == paid


def test_member_whose_gpu_the_next_one_needs_is_waited_for_until_ray_says_that_it_is_gone() -> None:
    driver = trained(peers_tell=False)
    driver.tell(held(driver, "w0001", 1))
    assert not driver.all(act.Form)
    assert not driver.all(act.AwaitEnd)
    driver.tell(ev.Gone("w0002", ev.Cause.DIED))
    assert [seat.worker for seat in driver.only(act.Form).seats] == ["w0001", "w0003"]


def test_member_that_was_killed_for_hanging_is_told_with_that_reason() -> None:
    """Its peers see it die too, and know nothing of why."""
    driver = trained()
    done: list[act.Action] = []
    while not any(isinstance(item, act.EndWorker) for item in done):
        alive = ev.Progress("w0001", 1, 4, ev.Doing.IDLE, 10.0)
        done = driver.wait(1.0, alive)
        assert driver.now_s < 60.0
    driver.tell(held(driver, "w0001", 1))
    assert not driver.all(act.AwaitEnd)
    driver.tell(ev.Gone("w0002", ev.Cause.HUNG, "no sign of life"))
    losses = [item.event for item in driver.all(act.Note) if isinstance(item.event, LossOfWorker)]
    assert [loss.cause for loss in losses] == ["hung"]


def test_rank_means_nobody_where_a_driver_took_over_what_was_left_of_a_group() -> None:
    """The living are in the order of their ranks there, and the dead have no place."""
    living = [
        machine.WorkerReport(
            f"w000{rank + 1}", "n", 1, "a:1", 1, rank, 3, 4, 2, 20, False, True, True
        )
        for rank in (1, 2)
    ]
    rules = policy(count=3, standby=0)
    run, _ = machine.adopt(rules, living, 3, Budgets(50), 1, 4, 0.0)
    told = ev.Held("w0002", 1, 4, 2, "w0002:2", "a peer is lost", dead=(0, 1))
    run, _ = machine.advance(run, told, 1.0)
    assert {"w0002", "w0003"} <= set(run.workers)


def test_what_is_seen_of_another_generation_or_of_no_rank_loses_nobody() -> None:
    driver = trained()
    driver.tell(held(driver, "w0001", 7))
    assert set(driver.run.workers) >= {"w0001", "w0002", "w0003"}
    driver.tell(held(driver, "w0002"))
    form = driver.only(act.Form)
    assert form.generation == 2
    driver.tell(held(driver, "w0001", 1, generation=1))
    assert "w0002" in driver.run.workers
