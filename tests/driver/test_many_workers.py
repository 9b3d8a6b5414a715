"""Does what the driver does for each message stay the same, however many workers there are?

Lines of Python that are run are counted, each round of a loop among them, never seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import crew
from orchestrator.decide import events as ev
from orchestrator.decide.doing import Doing
from orchestrator.decide.phases import Phase
from orchestrator.decide.room import Demand
from orchestrator.decide.run import Run
from orchestrator.workers.places import Place, Places
from tests.benchmarks.bench_scale import STEP_S, Driver, Workers

FEW, MANY = 100, 1000
WITH_GPU = Demand(1.0, 1.0)


def lines(work: Callable[[], object]) -> int:
    """How many lines are run; a loop that stands in one line counts each of its rounds."""
    count = 0

    def trace(_frame: FrameType, what: str, _arg: Any) -> Any:
        nonlocal count
        count += what == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def formed(workers: int, save_steps: int = 10**9) -> Driver:
    driver = Driver(workers, save_steps)
    driver.form()
    driver.train(3)
    return driver


def of_a_message(workers: int) -> float:
    driver = formed(workers)
    driver.now_s += STEP_S
    for pulse in driver.workers.pulses():
        driver.inbox.put(pulse)
    return lines(driver.handle_all) / workers


def of_a_start(workers: int) -> float:
    return lines(Driver(workers).form) / workers


def of_a_loss(workers: int) -> float:
    driver = formed(workers)
    driver.now_s += STEP_S / 2  # deadlines are looked at by ticks
    lost = driver.workers.seats[1].worker
    driver.inbox.put(ev.Gone(lost, ev.Cause.DIED))
    spent = lines(driver.handle_all)
    assert driver.loop.run.generation == 2
    assert len(driver.loop.run.seats) == workers
    return spent / workers


def of_a_loss_after_which_the_last_ranks_stop_first(workers: int) -> float:
    with pytest.MonkeyPatch.context() as patch:
        real = Workers.quiesce

        def quiesce(these: Workers, action: act.Quiesce) -> None:
            real(these, act.Quiesce(action.generation, action.workers[::-1], action.urgent))

        patch.setattr(Workers, "quiesce", quiesce)
        return of_a_loss(workers)


def of_a_notice(workers: int) -> float:
    """One member is about to go, while the others go on telling how far they are."""
    driver = formed(workers)
    driver.now_s += STEP_S / 2
    driver.inbox.put(ev.Notice(driver.workers.seats[0].worker, "drained"))
    for pulse in driver.workers.pulses():
        driver.inbox.put(pulse)
    return lines(driver.handle_all) / workers


def of_a_save(workers: int) -> float:
    driver = formed(workers, save_steps=4)
    driver.train(3)
    flight, files = driver.loop.run.saves.in_flight, ()
    assert flight is not None
    driver.now_s += STEP_S / 2
    about = flight.generation, flight.step
    told = ev.SaveWritten(flight.writer, *about, 0, "d", "p", files, {"v": 1})
    driver.inbox.put(told)
    for seat in driver.workers.seats[1:]:
        driver.inbox.put(ev.SaveChecked(seat.worker, *about, {"v": 1}))
    spent = lines(driver.handle_all)
    committing = driver.loop.run.saves.in_flight
    assert committing is not None
    assert committing.committing
    return spent / workers


def of_a_look_while_all_fetch(workers: int) -> float:
    """All workers of many nodes fetch the checkpoint, and the clock is looked at."""
    driver = Driver(workers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver.workers, "form", lambda action, checkpoint: None)
        driver.form()
    assert driver.loop.run.phase is Phase.FORMING
    for ident in driver.loop.run.members:
        driver.inbox.put(ev.Progress(ident, 1, 0, Doing.STAGING, moved_bytes=1))
    driver.handle_all()
    driver.now_s += STEP_S
    return lines(lambda: driver.loop._handle(ev.Tick())) / workers


def of_places_on_nodes(workers: int) -> float:
    """Every worker lies somewhere, says so, takes a rank and is gone."""
    books = Places()

    def live() -> None:
        for number in range(workers):
            ident, node = f"w{number:04d}", f"node-{number // 8}"
            assert books.free_for(WITH_GPU, ()) is None
            place = Place(f"p{number}", None, WITH_GPU)
            books.add(place)
            books.put(place, ident, WITH_GPU)
            books.arrived(ident, node, (f"GPU-{number}",))
            assert books.lend(ident) is not None
        for number in range(workers):
            books.leave(f"w{number:04d}")

    return lines(live) / workers


WORKS = [
    of_a_message,
    of_a_start,
    of_a_loss,
    of_a_loss_after_which_the_last_ranks_stop_first,
    of_a_notice,
    of_a_save,
    of_a_look_while_all_fetch,
    of_places_on_nodes,
]


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
def test_each_worker_costs_as_much_among_many_as_among_few(work: Callable[[int], float]) -> None:
    assert work(MANY) < 1.2 * work(FEW)


@pytest.mark.turns(4, "what large ones cost")
@pytest.mark.slow
def test_each_worker_costs_more_among_many_where_a_rule_looks_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def is_enough(run: Run) -> bool:
        warm = [worker for worker in run.workers.values() if worker.node]
        return len(warm) >= run.target

    monkeypatch.setattr(crew, "is_enough", is_enough)
    assert of_a_start(MANY) > 2 * of_a_start(FEW)


def test_a_step_of_all_leaves_nothing_behind_that_grows_with_the_run() -> None:
    driver = formed(FEW)

    def size() -> int:
        return sum(len(vars(driver.loop._step_times)[name]) for name in ("_first", "_last"))

    before = size()
    driver.train(50)
    assert size() == before
    assert driver.inbox._newest == {}
