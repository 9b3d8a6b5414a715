"""Do a run's numbers reach Ray as they should: each once, gauges again and again, and none for ever?
Without Ray: what it's told is kept.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from orchestrator.driver import metrics
from orchestrator.driver.measurements import BOUNDARIES, METERS, Counted
from orchestrator.driver.metrics import AGAIN_EVERY_S, RayMetrics
from orchestrator.driver.observer import RunProgress
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse_all
from tests.launch import journals

PARTS = "tfresume_step_part_seconds"


class Told:
    """Stands for ``ray.util.metrics``: what was made, and what each was told."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[str, str, tuple[str, ...], Any]] = {}
        self.values: list[tuple[str, str, float, Mapping[str, str]]] = []

    def instrument(self, kind: str, name: str, meaning: str, **how: Any) -> Any:
        assert name not in self.made, "each is made once"
        self.made[name] = (kind, meaning, how["tag_keys"], how.get("boundaries"))

        def tell(verb: str) -> Any:
            return lambda value, tags: self.values.append((name, verb, value, tags))

        return SimpleNamespace(set=tell("set"), inc=tell("inc"), observe=tell("observe"))

    def of(self, name: str) -> list[tuple[str, float, Mapping[str, str]]]:
        return [(verb, value, tags) for told, verb, value, tags in self.values if told == name]


class Ticks:
    """Stands for the event that ends the setting again: so many rounds until then."""

    def __init__(self) -> None:
        self.rounds, self.waits = 0, [0.0][:0]
        self.over = False

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.rounds -= 1
        return self.rounds < 0

    def set(self) -> None:
        self.over = True


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found = Told()
    util: Any = ModuleType("ray.util")
    util.metrics = SimpleNamespace(
        Gauge=lambda *words, **how: found.instrument("gauge", *words, **how),
        Counter=lambda *words, **how: found.instrument("counter", *words, **how),
        Histogram=lambda *words, **how: found.instrument("histogram", *words, **how),
    )
    monkeypatch.setitem(sys.modules, "ray.util", util)
    return found


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    """Nothing is set again but by the test."""
    found = Ticks()
    own = SimpleNamespace(Lock=threading.Lock, Event=lambda: found, Thread=threading.Thread)
    monkeypatch.setattr(metrics, "threading", own)
    return found


def at(step: int, loss: float | None = 0.5) -> RunProgress:
    return RunProgress(step, loss, 20.0, None, 2, 2000, generation=1)


def test_each_number_has_an_instrument_of_its_kind_with_the_run_as_a_label(
    told: Told, ticks: Ticks
) -> None:
    observer = RayMetrics("gs://b/more")
    observer.progress(at(100))
    for event in journals.loss_of_rank_1():
        observer.event(event)
    observer.close()
    kinds = {name: (kind, keys) for name, (kind, _, keys, _) in told.made.items()}
    assert kinds["tfresume_step"] == ("gauge", ("run",))
    assert kinds["tfresume_incidents"] == ("counter", ("run", "kind"))
    assert kinds["tfresume_recovery_seconds"] == ("histogram", ("run", "kind"))
    assert all(told.made[name][1] == METERS[name].meaning for name in told.made)
    assert told.made["tfresume_recovery_seconds"][3] == list(BOUNDARIES)
    of = {"run": "gs://b/more"}
    assert told.of("tfresume_step") == [("set", 100.0, of)]
    assert told.of("tfresume_incidents") == [("inc", 1.0, {**of, "kind": "died"})]
    assert told.of("tfresume_recovery_seconds") == [("observe", 0.41, {**of, "kind": "died"})]
    assert ticks.over


def test_what_earlier_drivers_counted_is_counted_on(told: Told, ticks: Ticks) -> None:
    observer = RayMetrics("r")
    observer.past(folded(Counted, parse_all(journals.loss_of_rank_1())))
    observer.event(journals.loss_of_rank_1()[-1])
    observer.close()
    assert [value for _, value, _ in told.of("tfresume_incidents")] == [1.0, 1.0]


def test_gauges_are_set_again_and_only_those_that_say_something_still(
    told: Told, ticks: Ticks
) -> None:
    ticks.rounds = 2
    observer = RayMetrics("r")
    observer.event(journals.loss_of_rank_1()[-1])
    assert ticks.waits == [], "a counter keeps what it has"
    observer.progress(at(100))
    observer.close()
    assert ticks.waits == [AGAIN_EVERY_S] * 3
    assert [value for _, value, _ in told.of("tfresume_step")] == [100.0] * 3
    assert [value for _, value, _ in told.of("tfresume_world_size")] == [2.0] * 3
    assert len(told.of("tfresume_loss")) == len(told.of("tfresume_steps_per_second")) == 1
    assert len(told.of("tfresume_incidents")) == 1


def test_series_that_are_told_together_are_set_again_as_they_were_told_last(
    told: Told, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a rank that has left would be shown for as long as the driver lives."""
    started: list[Any] = []

    def thread(**how: Any) -> Any:
        return SimpleNamespace(start=lambda: started.append(how), join=how["target"])

    own = SimpleNamespace(Lock=threading.Lock, Event=lambda: ticks, Thread=thread)
    monkeypatch.setattr(metrics, "threading", own)
    observer = RayMetrics("r")
    observer.progress(at(100))
    times = {"0": {"all": 1.0, "input": 0.5}, "1": {"all": 2.0}}
    observer.event(journals.event(1, "step_times", ranks=times))
    observer.event(journals.event(2, "step_times", ranks={"0": {"all": 3.0}}))
    observer.progress(at(200))
    before = len(told.values)
    ticks.rounds = 1
    observer.close()
    again = [(name, value) for name, _, value, _ in told.values[before:]]
    assert (PARTS, 3.0) in again
    assert [name for name, _ in again].count(PARTS) == 1
    assert ("tfresume_step", 200.0) in again
    assert [how["name"] for how in started] == ["tfresume-metrics"]
    assert [how["daemon"] for how in started] == [True], "it keeps no driver alive"


def test_run_that_told_nothing_closes_at_once(told: Told, ticks: Ticks) -> None:
    RayMetrics("r").close()
    assert (told.values, ticks.waits, ticks.over) == ([], [], True)
