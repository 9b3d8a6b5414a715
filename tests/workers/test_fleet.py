"""Does a driver make late workers without the checkpoint that only the first group needs?"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.workers import fleet as fleet_module
from orchestrator.workers.fleet import Fleet
from orchestrator.workers.orders import CheckpointFiles, Setup
from orchestrator.workers.scheduling import THREADS, Scheduler, Threads
from orchestrator.workers.starting import SIDE_BY_SIDE

START = CheckpointFiles(3, 0, "gs://b/model.ckpt-3", ())


class Actors:
    """Stands for Ray's class: keeps what each actor was made with."""

    def __init__(self) -> None:
        self.made: dict[str, Setup] = {}

    def options(self, **_options: Any) -> Actors:
        return self

    def remote(self, worker: str, _attempt: int, setup: Setup) -> Any:
        self.made[worker] = setup
        silent = SimpleNamespace(future=Future)  # a poll that isn't answered yet
        return SimpleNamespace(poll=SimpleNamespace(remote=lambda *_: silent))


def listened(fleet: Fleet, workers: int) -> None:
    """Wait until so many of them are heard."""
    deadline_s = time.monotonic() + 60
    while len(fleet._calls.actors) < workers:
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_fleet_gives_the_start_checkpoint_to_those_only_that_may_read_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each late worker's node fetched it anew, for nothing: they get their state from a member."""
    actors, puts = Actors(), []
    monkeypatch.setattr(fleet_module, "actor_class", lambda: actors)
    monkeypatch.setattr("ray.put", lambda setup: (puts.append(setup), setup)[1])  # type: ignore[func-returns-value]
    setup = Setup(None, None, None, None, "model.ckpt", START, 120.0, 2, b"")  # type: ignore[arg-type]
    placement: Any = SimpleNamespace(options=lambda *_arguments, **_named: {})
    fleet = Fleet("namespace", 1, placement, lambda event: None, lambda: setup)
    for number in (1, 2):
        fleet.start(act.StartWorker(f"w{number}", stage=True))
    for number in (3, 4):
        fleet.start(act.StartWorker(f"w{number}"))
    listened(fleet, 4)
    assert [actors.made[f"w{number}"].start for number in (1, 2, 3, 4)] == [
        START,
        START,
        None,
        None,
    ]
    assert len(puts) == 2, "a graph of many megabytes is put into the object store once for each"


def test_fleet_ends_one_that_was_seen_to_die_and_lives_and_frees_its_place_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actors, killed = Actors(), threading.Event()
    freed: list[str] = []
    monkeypatch.setattr(fleet_module, "actor_class", lambda: actors)
    monkeypatch.setattr(fleet_module, "END_TOLD_S", 0.05)
    monkeypatch.setattr("ray.put", lambda setup: setup)
    monkeypatch.setattr("ray.kill", lambda actor, no_restart: killed.set())
    setup = Setup(None, None, None, None, "model.ckpt", START, 120.0, 2, b"")  # type: ignore[arg-type]
    placement: Any = SimpleNamespace(options=lambda *_, **__: {}, free=freed.append)
    fleet = Fleet("namespace", 1, placement, lambda event: None, lambda: setup)
    for worker in ("w1", "w2"):
        fleet.start(act.StartWorker(worker))
        listened(fleet, 1)
        fleet.await_end(act.AwaitEnd(worker))
        if worker == "w1":
            assert killed.wait(10)
            killed.clear()
            # Ray has told the other one's end in time
            monkeypatch.setattr(fleet_module, "END_TOLD_S", 0.5)
    fleet._calls._tell_gone(ev.Gone("w2", ev.Cause.DIED))
    assert freed[:2] == ["w1", "w2"]
    assert not killed.wait(1.0)


SETUP = Setup(None, None, None, None, "model.ckpt", START, 120.0, 2, b"")  # type: ignore[arg-type]


class SlowPlacement:
    """Answers once so many have asked, or when it's told to."""

    def __init__(self, together: int) -> None:
        self.barrier = threading.Barrier(together)
        self.removed = False
        self.freed: list[str] = []
        self.asked: list[str] = []

    def options(self, worker: str, *_: Any, **__: Any) -> dict[str, Any]:
        self.asked.append(worker)
        self.barrier.wait(60)
        return {}

    def free(self, worker: str) -> None:
        self.freed.append(worker)

    def remove(self) -> None:
        self.removed = True


class Bench:
    """A fleet over a slow placement."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, together: int, scheduler: Scheduler = THREADS
    ) -> None:
        self.actors, self.placement = Actors(), SlowPlacement(together)
        self.scheduler: Any = scheduler
        self.holds = True
        self.told: list[Any] = []
        self.killed: list[Any] = []
        monkeypatch.setattr(fleet_module, "actor_class", lambda: self.actors)
        monkeypatch.setattr("ray.put", lambda setup: setup)
        monkeypatch.setattr("ray.kill", lambda actor, no_restart: self.killed.append(actor))
        # Else Ray would start itself to answer, and be there for all tests of this process
        monkeypatch.setattr(fleet_module, "living_workers", lambda _: [])
        placement: Any = self.placement
        self.fleet = Fleet(
            *("namespace", 1, placement, self.told.append, lambda: SETUP),
            holds=lambda: self.holds,
            scheduler=scheduler,
        )


def test_workers_are_started_side_by_side_and_whoever_asks_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, together=SIDE_BY_SIDE + 1)
    for number in range(4 * SIDE_BY_SIDE):
        bench.fleet.start(act.StartWorker(f"w{number}"))
    assert bench.actors.made == {}  # nobody can have been answered, and all were asked for
    for _ in range(4):
        bench.placement.barrier.wait(60)  # each time, all of them wait for Ray at once
    listened(bench.fleet, 4 * SIDE_BY_SIDE)
    assert set(bench.actors.made) == {f"w{number}" for number in range(4 * SIDE_BY_SIDE)}


def test_worker_that_is_ended_while_it_starts_is_told_once_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, together=2)
    bench.fleet.start(act.StartWorker("w1"))
    bench.fleet.end(act.EndWorker("w1", ev.Cause.RELEASED.value, "not needed"))
    assert bench.told == [ev.Gone("w1", ev.Cause.RELEASED, "not needed")]
    bench.placement.barrier.wait(60)
    bench.fleet.close(kill=False)
    assert len(bench.actors.made) == len(bench.killed) == 1
    assert bench.placement.freed[-1] == "w1"
    assert len(bench.told) == 1


@pytest.mark.parametrize("holds", [True, False])
def test_fleet_of_a_driver_that_may_have_been_followed_ends_nobody_and_gives_no_place_back(
    holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are its successor's by then: one that it takes for hung may train for the other."""
    bench = Bench(monkeypatch, together=1)
    for worker in ("w1", "w2"):
        bench.fleet.start(act.StartWorker(worker))
    listened(bench.fleet, 2)
    bench.holds = holds
    bench.fleet.end(act.EndWorker("w1", ev.Cause.HUNG.value, "no sign of life"))
    assert len(bench.killed) == (1 if holds else 0)
    bench.fleet.close(kill=True)
    assert len(bench.killed) == (3 if holds else 0)  # Ray hasn't told the first one's end yet
    assert bench.placement.removed is holds


def test_fleet_that_was_followed_while_a_worker_started_leaves_it_to_the_next_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, together=2)
    bench.fleet.start(act.StartWorker("w1"))
    bench.fleet.end(act.EndWorker("w1", ev.Cause.RELEASED.value, "not needed"))
    while not bench.placement.asked:
        time.sleep(0.001)
    bench.holds = False
    bench.placement.barrier.wait(60)
    bench.fleet.close(kill=False)
    assert list(bench.actors.made) == ["w1"]
    assert bench.killed == []


def test_fleet_that_closes_waits_for_starts_under_way_and_begins_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, together=SIDE_BY_SIDE + 1)
    for number in range(3 * SIDE_BY_SIDE):
        bench.fleet.start(act.StartWorker(f"w{number}"))
    closing = threading.Thread(target=bench.fleet.close, kwargs={"kill": False})
    while len(bench.placement.asked) < SIDE_BY_SIDE:
        time.sleep(0.001)
    closing.start()
    while not bench.fleet._starter._closed:
        time.sleep(0.001)
    bench.placement.barrier.wait(60)
    closing.join(60)
    assert not closing.is_alive()
    assert len(bench.actors.made) == len(bench.killed) == SIDE_BY_SIDE
    assert bench.fleet._calls.actors == {}


def test_start_that_ray_refuses_is_a_loss_that_the_rules_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, together=1)

    def refuse(*_: Any, **__: Any) -> Any:
        raise ValueError("no such label")

    monkeypatch.setattr(bench.placement, "options", refuse)
    bench.fleet.start(act.StartWorker("w1"))
    deadline_s = time.monotonic() + 60
    while not bench.told:
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    assert bench.told == [ev.Gone("w1", ev.Cause.ERROR, "ValueError: no such label")]


class Later(Threads):
    """Threads, but what is to be done later is left to the test."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        self.asked.put(work)


def test_fleet_of_a_driver_that_may_have_been_followed_starts_nobody_until_it_holds_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that woke up from a pause started workers under names that its successor used as well:
    whichever of the two came second ended with an error of its own.
    """
    actors, scheduler = Actors(), Later()
    monkeypatch.setattr(fleet_module, "actor_class", lambda: actors)
    monkeypatch.setattr("ray.put", lambda setup: setup)
    placement: Any = SimpleNamespace(options=lambda *_, **__: {})
    holds = False
    fleet = Fleet(
        *("namespace", 1, placement, lambda event: None, lambda: SETUP),
        holds=lambda: holds,
        scheduler=scheduler,
    )
    fleet.start(act.StartWorker("w1"))
    scheduler.asked.get(timeout=60)()
    again = scheduler.asked.get(timeout=60)
    assert not actors.made
    holds = True
    again()
    listened(fleet, 1)
    assert list(actors.made) == ["w1"]
    assert scheduler.asked.empty()


def test_fleet_whose_workers_name_is_taken_waits_until_one_of_the_two_drivers_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a store creates nothing exclusively two drivers may have one number for a moment; the
    second one to start a worker ended with an error of its own.
    """
    bench = Bench(monkeypatch, together=1, scheduler=Later())

    def taken(*_: Any, **__: Any) -> Any:
        raise ValueError("The name w1 is already taken")

    monkeypatch.setattr(bench.actors, "remote", taken)
    monkeypatch.setattr(fleet_module, "living_workers", lambda _: ["w1"])
    bench.fleet.start(act.StartWorker("w1"))
    bench.scheduler.asked.get(timeout=60)
    assert (bench.placement.freed, bench.told) == (["w1"], [])
