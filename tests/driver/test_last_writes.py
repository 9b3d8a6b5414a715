"""How long does a driver wait at its end for a slow output, and for one that stands still?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.driver import last_writes
from orchestrator.driver.save_manifests import Saved
from orchestrator.driver.storage_thread import StorageThread
from orchestrator.errors import StorageUnavailable
from orchestrator.journal.run_events import Warned
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.lease import acquire, observe
from orchestrator.workers.scheduling import Threads
from tests.driver_simulation.faults import Faults
from tests.driver_simulation.patches import simulated
from tests.driver_simulation.schedule import Process, SimScheduler
from tests.driver_simulation.world import World


def closed(world: World, before_close: Callable[[], None]) -> tuple[float, list[str], bool]:
    """Simulated seconds that a storage thread takes to close with six events to write, one request
    each; the reasons that its journal tells then, and whether the lease was given up.
    """
    took: list[float] = []
    process = Process(1, "driver")
    scheduler = SimScheduler(world.schedule, process)
    world.drivers.processes.append(process)

    def drive() -> None:
        output = open_location("sim://out")
        lease = acquire(output, now=scheduler.monotonic, wait=scheduler.sleep)
        about = (output, lease, world.config, Saved("f", None, ()), None, None, 0.0)
        thread = StorageThread(*about, lambda message: None, scheduler)
        before_close()
        for number in range(6):
            thread.note(Warned(reason=str(number)).stamped(0.0, 1, 0.0))
        began_s = scheduler.monotonic()
        thread.close()
        took.append(scheduler.monotonic() - began_s)

    with simulated(world):
        world.output = open_location("sim://out")
        scheduler.start(drive, "main")
        world.schedule.play(2000.0)
        world.schedule.task = world.schedule.process = None
        told = [record["reason"] for record in world.truth.told.journal()]
        return took[0], told, observe(world.output).released


def slower(world: World, latency_s: float) -> None:
    faults = world.bucket.faults
    world.bucket.faults = type(faults)(latency_s=latency_s)


def test_driver_waits_at_its_end_for_an_output_that_is_slow_and_moves() -> None:
    world = World(1, Faults())
    took_s, told, released = closed(world, lambda: slower(world, 20.0))
    assert took_s > 2 * last_writes.STILL_S
    assert told == [str(number) for number in range(6)]
    assert released


def test_driver_waits_at_its_end_for_an_output_that_is_away_for_a_moment() -> None:
    """A flush that fails is tried again by the next one; after the last there's none."""
    world = World(1, Faults())

    def goes_away() -> None:
        world.bucket.down_until_s = world.schedule.now_s + last_writes.STILL_S / 2

    _, told, released = closed(world, goes_away)
    assert told == [str(number) for number in range(6)]
    assert released
    assert "refuses" in world.bucket.fired


def test_driver_leaves_an_output_alone_that_does_not_answer_at_its_end() -> None:
    world = World(1, Faults())
    took_s, told, released = closed(world, lambda: slower(world, 10_000.0))
    assert took_s <= 2 * last_writes.STILL_S + 1e-6  # lines are put in line within the first
    assert not told
    assert not released


def test_driver_waits_for_its_last_writes_no_longer_than_it_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(1, Faults())
    scheduler = SimScheduler(world.schedule, Process(1, "driver"))
    took: list[float] = []

    def drive() -> None:
        began_s = scheduler.monotonic()
        endless = scheduler.start(lambda: scheduler.sleep(1e6), "writes")
        last_writes.wait_for(endless, lambda: False, scheduler.monotonic, scheduler)
        took.append(scheduler.monotonic() - began_s)

    with caplog.at_level(logging.WARNING, "tfresume"):
        scheduler.start(drive, "main")
        world.schedule.play(2000.0)
    assert took == [last_writes.LONGEST_S]
    assert "270 s more at most" in caplog.text
    assert last_writes.GIVEN_UP in caplog.text


class Plays(Threads):
    """A clock that moves by what is slept and by what a thread is waited for."""

    def __init__(self) -> None:
        self.now_s, self.waited_s = 5.0, list[float]()

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def join(self, timeout_s: float) -> None:
        self.waited_s.append(timeout_s)
        self.now_s += timeout_s


def test_last_flush_is_tried_once_a_second_for_as_long_as_it_says() -> None:
    plays, tries = Plays(), list[float]()

    def flush() -> None:
        tries.append(plays.now_s)
        raise StorageUnavailable("503")

    journal: Any = SimpleNamespace(flush=flush)
    with pytest.raises(StorageUnavailable):
        last_writes.flush(journal, plays)
    assert tries == [5.0 + second for second in range(int(last_writes.STILL_S) + 1)]


def test_slow_output_is_waited_for_up_to_the_very_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(last_writes, "LONGEST_S", 60.5)
    plays = Plays()
    last_writes.wait_for(plays, lambda: False, plays.monotonic, plays)
    assert plays.waited_s == [30.0, 30.0, 0.5]
    slow = [last_writes.SLOW % left_s for left_s in (30.5, 0.5)]
    assert [record.getMessage() for record in caplog.records] == [*slow, last_writes.GIVEN_UP]
