"""Are the numbers that a monitoring system sees those of the run, and none invented?"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launch.render.metric_names import exported
from orchestrator.driver.measurements import METERS, Counted, of_event, of_progress
from orchestrator.driver.metrics import RayMetrics
from orchestrator.driver.observer import Observers, RunProgress
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse

pytestmark = pytest.mark.turns(32, "whole runs")

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = ROOT / "docs" / "operations.md"
PROGRESS = RunProgress(
    step=100, loss=0.5, steps_per_s=20.0, checkpoint=None, world_size=2, until=1000, generation=3
)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param({"event": "training", "step": 1}, [], id="nothing to measure"),
        pytest.param(
            {"event": "incident", "kind": "hung", "recovered_s": 6.5, "steps_redone": 3},
            [
                ("tfresume_incidents", 1.0, "hung"),
                ("tfresume_steps_redone", 3.0, None),
                ("tfresume_recovery_seconds", 6.5, "hung"),
            ],
            id="an incident",
        ),
        pytest.param(
            {"event": "incident", "kind": "died", "recovered_s": None, "steps_redone": 0},
            [("tfresume_incidents", 1.0, "died")],
            id="an incident that was never over",
        ),
        pytest.param(
            {"event": "incident", "recovered_s": None, "steps_redone": 0},
            [("tfresume_incidents", 1.0, "unknown")],
            id="an incident of an earlier version",
        ),
        pytest.param(
            {"event": "save_committed", "step": 100, "size_bytes": 480, "stall_s": 0.05},
            [
                ("tfresume_saves", 1.0, "committed"),
                ("tfresume_checkpoint_step", 100.0, None),
                ("tfresume_checkpoint_bytes", 480.0, None),
                ("tfresume_save_stall_seconds", 0.05, None),
            ],
            id="a commit",
        ),
        pytest.param(
            {"event": "save_failed", "step": 100},
            [("tfresume_saves", 1.0, "failed")],
            id="a failed save",
        ),
    ],
)
def test_measurements_of_an_event_are_those_it_tells(
    event: dict[str, Any], expected: list[tuple[str, float, str | None]]
) -> None:
    found = [
        (item.name, item.value, next(iter(item.labels.values()), None))
        for item in of_event(parse(event))
    ]
    assert found == expected


def test_measurements_of_progress_leave_out_a_loss_that_is_not_a_number() -> None:
    known = {item.name: item.value for item in of_progress(PROGRESS)}
    assert (known["tfresume_step"], known["tfresume_until_step"], known["tfresume_loss"]) == (
        100.0,
        1000.0,
        0.5,
    )
    for loss in (None, float("nan"), float("inf")):
        progress = RunProgress(
            step=100, loss=loss, steps_per_s=0.0, checkpoint=None, world_size=2, until=1000
        )
        assert "tfresume_loss" not in {item.name for item in of_progress(progress)}


EVENTS: list[dict[str, Any]] = [
    {"event": "attempt", "attempt": 2},
    {"event": "finish", "attempt": 1},
    {"event": "incident", "kind": "died", "recovered_s": 0.4, "steps_redone": 1},
    {"event": "save_committed", "step": 1, "size_bytes": 1, "stall_s": 1},
    {"event": "step_times", "ranks": {"0": {"compute": 0.1}}},
]
"""With a run's progress, these make a driver tell every meter."""


def test_every_measurement_has_a_meter_with_its_labels_and_a_name_that_prometheus_takes() -> None:
    measured = [
        *of_progress(PROGRESS),
        *(item for event in EVENTS for item in of_event(parse(event))),
    ]
    assert {item.name for item in measured} == set(METERS)
    assert all(set(item.labels) == set(METERS[item.name].labels) for item in measured)
    assert all(re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name) for name in METERS)


def test_measurements_of_the_past_go_on_where_counters_stood() -> None:
    past = [
        *({"event": "incident", "kind": "died", "recovered_s": 0.5} for _ in range(3)),
        {"event": "incident", "kind": "hung", "recovered_s": 7.0, "steps_redone": 2},
        {"event": "incident", "kind": "slow", "recovered_s": 5000.0},
        {"event": "save_failed", "step": 5},
        {"event": "save_committed", "step": 10, "size_bytes": 7, "stall_s": 0.1},
        {"event": "save_committed", "step": 20, "size_bytes": 8, "stall_s": 0.2},
        {"event": "attempt", "attempt": 1},
        {"event": "finish", "outcome": "stopped", "attempt": 1},
    ]
    found = [
        (item.name.removeprefix("tfresume_"), *item.labels.values(), item.value)
        for item in folded(Counted, map(parse, past)).measurements()
    ]
    assert sorted(found, key=str) == sorted(
        [
            ("incidents", "died", 3.0),
            ("incidents", "hung", 1.0),
            ("incidents", "slow", 1.0),
            ("recovery_seconds", "slow", 5000.0),
            ("steps_redone", 2.0),
            *[("recovery_seconds", "died", 0.5)] * 3,
            ("recovery_seconds", "hung", 7.0),
            ("saves", "failed", 1.0),
            ("saves", "committed", 2.0),
            ("save_stall_seconds", 0.1),
            ("save_stall_seconds", 0.2),
            ("checkpoint_step", 20.0),
            ("checkpoint_bytes", 8.0),
        ],
        key=str,
    )


def test_past_is_told_to_observers_that_ask_for_it_alone() -> None:
    class Asks:
        def __init__(self) -> None:
            self.told: list[object] = []

        def past(self, counted: object) -> None:
            self.told.append(counted)

        def event(self, event: object) -> None:
            self.told.append(event)

        def progress(self, progress: object) -> None:
            """Nothing is made of it."""

    class AsksNot:
        def __init__(self) -> None:
            self.events: list[object] = []

        def event(self, event: object) -> None:
            self.events.append(event)

        def progress(self, progress: object) -> None:
            """Nothing is made of it."""

    asks, asks_not = Asks(), AsksNot()
    observers = Observers([asks, asks_not])
    observers.past(Counted())
    observers.event({"event": "training"})
    assert len(asks.told) == 2
    assert len(asks_not.events) == 1  # it wasn't dropped


class Closing:
    """An observer that fails as it's told to."""

    def __init__(self, *fails: str) -> None:
        self.fails, self.calls = fails, list[str]()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise OSError(f"no {name}")

    def event(self, _event: object) -> None:
        self._call("event")

    def progress(self, _progress: object) -> None:
        self._call("progress")

    def close(self) -> None:
        self._call("close")


def test_observer_that_fails_is_closed_and_one_that_cannot_be_closed_keeps_nobody_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dropped, stuck, sound = Closing("event"), Closing("close"), Closing()
    observers = Observers([dropped, stuck, sound])
    with caplog.at_level("WARNING", "tfresume"):
        observers.event({"event": "training"})
        assert dropped.calls == ["event", "close"]
        observers.close()
    assert [item.calls for item in (dropped, stuck, sound)] == [["event", "close"]] * 3
    assert "an observer couldn't be closed: OSError: no close" in caplog.text


def test_gauges_are_told_again_as_long_as_the_driver_lives_and_no_counter_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: Counter[str] = Counter()
    again = threading.Event()

    class Told:
        def __init__(self, name: str) -> None:
            self.name = name

        def set(self, value: float, tags: dict[str, str]) -> None:
            told[self.name] += 1
            if told["tfresume_attempt"] >= 3:
                again.set()

        inc = observe = set  # noqa: A003

    monkeypatch.setattr("orchestrator.driver.metrics._instrument", lambda name, _meter: Told(name))
    monkeypatch.setattr("orchestrator.driver.metrics.AGAIN_EVERY_S", 0.001)
    metrics = RayMetrics("out")
    metrics.progress(PROGRESS)
    for event in EVENTS:
        metrics.event(event)
    assert again.wait(60)
    metrics.close()
    assert told["tfresume_checkpoint_step"] >= 3
    assert told["tfresume_incidents"] == told["tfresume_saves"] == 1
    assert told["tfresume_steps_per_second"] == 1
    after = told.copy()
    assert metrics._again is not None
    assert not metrics._again.is_alive()
    assert told == after


def test_step_parts_of_a_rank_that_is_gone_are_not_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: Counter[str] = Counter()
    again = threading.Event()

    class Told:
        def set(self, _value: float, tags: dict[str, str]) -> None:
            told[tags.get("rank", "none")] += 1
            if told["0"] >= 4:
                again.set()

    monkeypatch.setattr("orchestrator.driver.metrics._instrument", lambda *_: Told())
    monkeypatch.setattr("orchestrator.driver.metrics.AGAIN_EVERY_S", 0.001)
    first, then = (
        {"event": "step_times", "ranks": {rank: {"compute": 0.1} for rank in ranks}}
        for ranks in (("0", "1"), ("0",))
    )
    metrics = RayMetrics("out")
    with metrics._lock:  # nobody tells again in between
        for item in of_event(parse(first)):
            metrics._hand_over(item)
    metrics.event(then)
    assert again.wait(60)
    metrics.close()
    assert told["1"] == 1


TELLER = """
import sys, ray
from orchestrator.driver.measurements import Counted
from orchestrator.driver.metrics import RayMetrics
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse
from tests.driver.test_measurements import EVENTS, PROGRESS
ray.init(address=sys.argv[1], logging_level="ERROR")
metrics = RayMetrics("gs://b/more")
metrics.past(folded(Counted, [parse(event) for event in EVENTS] * int(sys.argv[2])))
metrics.progress(PROGRESS)
for event in EVENTS:
    metrics.event(event)
node = ray.nodes()[0]
print(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", flush=True)
sys.stdin.read()
"""


@pytest.mark.ray
def test_metrics_of_a_run_have_the_documented_names_and_go_on_through_a_drivers_death(
    ray_address: str,
) -> None:
    documented = set(re.findall(r"`(ray_tfresume_\w+)`", OPERATIONS.read_text()))
    first = _told_and_killed(ray_address, past=0, died=1.0)
    assert first["ray_tfresume_step"] == [100.0]
    second = _told_and_killed(ray_address, past=1, died=2.0)
    assert max(second["ray_tfresume_recovery_seconds_count"]) == 2.0
    names = {re.sub(r"_(?:bucket|sum|count)$", "", name) for name in second}
    assert names == set(map(exported, METERS))
    assert documented >= names
    assert all(name in names or name.startswith(tuple(names)) for name in documented)


def _told_and_killed(address: str, *, past: int, died: float) -> dict[str, list[float]]:
    """Our run's series once a driver's counter of deaths is seen; the driver is killed then.

    What an export that timed out on a busy machine held is lost to Ray, so the next driver tells.
    """
    for _ in range(4):
        with _teller(address, past=past) as teller:
            series = _seen(teller, lambda series: max(_died(series), default=0.0) >= died)
        if _died(series):
            assert max(_died(series)) == died
            return series
    pytest.fail(f"four drivers' counters never reached the endpoint; the last had {series}")


@contextmanager
def _teller(address: str, *, past: int) -> Iterator[subprocess.Popen[str]]:
    # A process of its own: Ray's metrics belong to the first cluster that a process was connected
    # to
    command = [sys.executable, "-c", TELLER, address, str(past)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as teller:
        try:
            yield teller
        finally:
            teller.kill()


def _seen(
    teller: subprocess.Popen[str], enough: Callable[[dict[str, list[float]]], bool]
) -> dict[str, list[float]]:
    assert teller.stdout is not None
    url = teller.stdout.readline().strip()
    deadline = time.monotonic() + 60
    series: dict[str, list[float]] = {}
    while not enough(series) and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                series = _series(reply.read().decode())
        except OSError:
            continue
    return series


def _series(text: str) -> dict[str, list[float]]:
    """Our run's series by name; other runs of this session may have told theirs."""
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        if line.startswith("ray_tfresume_") and 'run="gs://b/more"' in line:
            found.setdefault(line.partition("{")[0], []).append(float(line.rpartition(" ")[2]))
    return found


def _died(series: dict[str, list[float]]) -> list[float]:
    return series.get(exported("tfresume_incidents"), [])
