"""What does a driver keep of the workers that it has lost?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Set
from typing import Any

import immutables
import pytest

from orchestrator.decide import events as ev
from orchestrator.decide.phases import Phase
from orchestrator.driver import loop as loops
from orchestrator.driver.stagings import Stagings
from orchestrator.driver.step_times import StepTimes
from tests.benchmarks.bench_scale import Driver

WORKERS, LOSSES = 4, 1000
APART_S = 100.0
"""So that an hour of them is less than the budget."""


def kept(item: Any, seen: set[int]) -> int:
    """How many items lie in all containers that an object of this project leads to."""
    if id(item) in seen:
        return 0
    seen.add(id(item))
    inside: list[Any] = []
    if isinstance(item, Mapping | immutables.Map):
        inside = [*item.keys(), *item.values()]
    elif isinstance(item, list | tuple | Set | deque):
        inside = list(item)
    if type(item).__module__.startswith("orchestrator."):
        fields = getattr(type(item), "__slots__", ()) or getattr(item, "__dict__", ())
        inside += [getattr(item, name, None) for name in fields]
    return len(inside) + sum(kept(part, seen) for part in inside)


class Waning(Driver):
    """One worker after the other is lost: as its group trains, and while it still fetches."""

    def lose(self, number: int) -> None:
        run = self.loop.run
        member = run.members[number % WORKERS]
        self.now_s += APART_S
        fetches = ev.Progress(member, run.generation, 0, ev.Doing.STAGING, moved_bytes=number)
        self.inbox.put(fetches)
        self.inbox.put(ev.Gone(member, ev.Cause.DIED, f"no. {number}"))
        self.handle_all()
        assert self.loop.run.phase is Phase.TRAINING
        assert len(self.loop.run.members) == WORKERS
        self.train(3)


def sizes(driver: Waning, losses: int) -> list[int]:
    """What is kept after each tenth loss."""
    found = []
    for number in range(losses):
        driver.lose(number)
        if number % 10 == 9:
            others = {id(driver.output), id(driver.inbox), id(driver.workers)}
            found.append(kept(driver.loop, others))
    return found


def waning(patch: pytest.MonkeyPatch) -> Waning:
    patch.setattr(loops, "MOST_INCIDENTS", 20)
    driver = Waning(WORKERS)
    driver.form()
    driver.train(3)
    return driver


@pytest.mark.turns(4, "what large ones cost")
@pytest.mark.slow
def test_driver_keeps_no_more_after_a_thousand_losses_than_after_fifty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = waning(monkeypatch)
    found = sizes(driver, LOSSES)
    assert driver.loop.run.generation == LOSSES + 1
    assert max(found[50:]) <= max(found[:10])


class Everybody(tuple[str, ...]):
    """Whoever is asked for is there."""

    def __contains__(self, _: object) -> bool:
        return True


def forget_no_steps(patch: pytest.MonkeyPatch) -> None:
    real = StepTimes.take

    def take(these: StepTimes, pulse: ev.Progress, now_s: float, workers: Any) -> None:
        real(these, pulse, now_s, Everybody())

    patch.setattr(StepTimes, "take", take)


def forget_no_fetch(patch: pytest.MonkeyPatch) -> None:
    def take(these: Stagings, pulse: ev.Progress, workers: Any, now_s: float) -> None:
        if pulse.doing is ev.Doing.STAGING:
            these._since[pulse.worker] = now_s

    patch.setattr(Stagings, "take", take)


def forget_no_incident(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loops, "MOST_INCIDENTS", None)


@pytest.mark.slow
@pytest.mark.parametrize("leak", [forget_no_steps, forget_no_fetch, forget_no_incident])
def test_what_a_driver_would_keep_of_each_loss_is_seen(
    monkeypatch: pytest.MonkeyPatch, leak: Callable[[pytest.MonkeyPatch], None]
) -> None:
    driver = waning(monkeypatch)
    leak(monkeypatch)
    driver.loop.incidents = deque(maxlen=loops.MOST_INCIDENTS)
    found = sizes(driver, 200)
    assert max(found[15:]) > max(found[:10])
