"""Does what the driver does for each message stay the same, however many workers there are?

Calls are counted, never seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.decide import events as ev
from tests.benchmarks.bench_scale import STEP_S, Driver

FEW, MANY = 60, 480


def calls(work: Callable[[], object]) -> int:
    """How many functions are called, a generator's each item among them."""
    count = 0

    def counted(_frame: Any, what: str, _arg: Any) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def formed(workers: int) -> Driver:
    driver = Driver(workers)
    driver.form()
    driver.train(3)
    return driver


def of_a_message(workers: int) -> float:
    driver = formed(workers)
    driver.now_s += STEP_S
    for pulse in driver.workers.pulses():
        driver.inbox.put(pulse)
    return calls(driver.handle_all) / workers


def of_a_start(workers: int) -> float:
    return calls(Driver(workers).form) / workers


def of_a_loss(workers: int) -> float:
    driver = formed(workers)
    driver.now_s += STEP_S / 2  # deadlines are looked at by ticks
    lost = driver.workers.seats[1].worker
    driver.inbox.put(ev.Gone(lost, ev.Cause.DIED))
    spent = calls(driver.handle_all)
    assert driver.loop.run.generation == 2
    assert len(driver.loop.run.seats) == workers
    return spent / workers


@pytest.mark.parametrize("work", [of_a_message, of_a_start, of_a_loss])
def test_each_worker_costs_as_much_among_many_as_among_few(work: Callable[[int], float]) -> None:
    assert work(MANY) < 1.5 * work(FEW)


def test_a_step_of_all_leaves_nothing_behind_that_grows_with_the_run() -> None:
    driver = formed(FEW)

    def size() -> int:
        return sum(len(vars(driver.loop._step_times)[name]) for name in ("_first", "_last"))

    before = size()
    driver.train(50)
    assert size() == before
    assert driver.inbox._newest == {}
