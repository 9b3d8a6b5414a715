"""Does a driver make late workers without the checkpoint that only the first group needs?"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.workers import fleet as fleet_module
from orchestrator.workers.fleet import Fleet
from orchestrator.workers.orders import CheckpointFiles, Setup

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
        fleet.await_end(act.AwaitEnd(worker))
        if worker == "w1":
            assert killed.wait(10)
            killed.clear()
            # Ray has told the other one's end in time
            monkeypatch.setattr(fleet_module, "END_TOLD_S", 0.5)
    fleet._calls._tell_gone(ev.Gone("w2", ev.Cause.DIED))
    assert freed[:2] == ["w1", "w2"]
    assert not killed.wait(1.0)


def test_fleet_of_a_driver_that_may_have_been_followed_starts_nobody_until_it_holds_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that woke up from a pause started workers under names that its successor used as well:
    whichever of the two came second ended with an error of its own.
    """
    actors, later = Actors(), []
    monkeypatch.setattr(fleet_module, "actor_class", lambda: actors)
    monkeypatch.setattr("ray.put", lambda setup: setup)
    setup = Setup(None, None, None, None, "model.ckpt", START, 120.0, 2, b"")  # type: ignore[arg-type]
    placement: Any = SimpleNamespace(options=lambda *_, **__: {})
    scheduler: Any = SimpleNamespace(later=lambda delay_s, work: later.append(work))
    holds = False
    fleet = Fleet(
        *("namespace", 1, placement, lambda event: None, lambda: setup),
        holds=lambda: holds,
        scheduler=scheduler,
    )
    fleet.start(act.StartWorker("w1"))
    later.pop()()
    assert not actors.made
    holds = True
    later.pop()()
    assert list(actors.made) == ["w1"]
    assert not later


@pytest.mark.parametrize("lives", [True, False])
def test_fleet_whose_workers_name_is_taken_waits_until_one_of_the_two_drivers_hears_of_it(
    lives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a store creates nothing exclusively two drivers may have one number for a moment; the
    second one to start a worker ended with an error of its own.
    """

    class Taken(Actors):
        def remote(self, worker: str, _attempt: int, setup: Setup) -> Any:
            raise ValueError(f"The name {worker} is already taken")

    later: list[Any] = []
    freed: list[str] = []
    monkeypatch.setattr(fleet_module, "actor_class", Taken)
    monkeypatch.setattr(fleet_module, "living_workers", lambda _: ["w1"] if lives else [])
    monkeypatch.setattr("ray.put", lambda setup: setup)
    setup = Setup(None, None, None, None, "model.ckpt", START, 120.0, 2, b"")  # type: ignore[arg-type]
    placement: Any = SimpleNamespace(options=lambda *_, **__: {}, free=freed.append)
    scheduler: Any = SimpleNamespace(later=lambda delay_s, work: later.append(work))
    fleet = Fleet(
        *("namespace", 1, placement, lambda event: None, lambda: setup), scheduler=scheduler
    )
    if lives:
        fleet.start(act.StartWorker("w1"))
    else:
        with pytest.raises(ValueError, match="already taken"):
            fleet.start(act.StartWorker("w1"))
    assert (len(later), freed) == ((1, ["w1"]) if lives else (0, []))
