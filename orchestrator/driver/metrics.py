"""How do a run's numbers reach Prometheus?

Rule: through Ray's own metrics, so that whoever scrapes the cluster's nodes sees them without
another port; Ray puts ``ray_`` before each name. What is measured is decided in `measurements`.
Ray's agent forgets a gauge that nobody has set for twice its export interval, so they're set again
as long as this driver lives; it keeps counters and histograms of processes that are gone.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from orchestrator.driver.measurements import (
    BOUNDARIES,
    METERS,
    MOMENTARY,
    WHOLE,
    Counted,
    Measurement,
    Meter,
    of_event,
    of_progress,
)
from orchestrator.driver.observer import RunProgress
from orchestrator.journal.parsing import parse

AGAIN_EVERY_S = 5.0
"""Ray exports every 10 s and forgets after 20 (RAY_metrics_report_interval_ms)."""


class Instrument(Protocol):
    """One of Ray's metrics: gauges ``set``, counters ``inc``, histograms ``observe``."""

    def set(self, value: float, tags: dict[str, str]) -> None: ...
    def inc(self, value: float, tags: dict[str, str]) -> None: ...
    def observe(self, value: float, tags: dict[str, str]) -> None: ...


class RayMetrics:
    """An observer that hands its numbers to Ray. Ray has to be connected by the time of the first
    one.

    Args:
        run: the output's URL without credentials; the label ``run`` of every series.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._instruments: dict[str, Instrument] = {}
        self._gauges: dict[tuple[str, ...], Measurement] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._again: threading.Thread | None = None

    def past(self, counted: Counted) -> None:
        """Counts what earlier drivers did: their series end with them, and totals go on here."""
        self._tell(counted.measurements())

    def event(self, event: Mapping[str, Any]) -> None:
        """Counts incidents and saves."""
        self._tell(of_event(parse(event)))

    def progress(self, progress: RunProgress) -> None:
        """Sets the gauges."""
        self._tell(of_progress(progress))

    def close(self) -> None:
        """The run has ended; its gauges aren't set again."""
        self._over.set()
        if self._again is not None:
            self._again.join()

    def _tell(self, measurements: Sequence[Measurement]) -> None:
        told_whole = WHOLE.intersection(item.name for item in measurements)
        with self._lock:
            self._gauges = {key: it for key, it in self._gauges.items() if key[0] not in told_whole}
            for item in measurements:
                self._hand_over(item)
        if self._gauges and self._again is None:
            self._again = threading.Thread(
                target=self._tell_gauges_again, name="tfresume-metrics", daemon=True
            )
            self._again.start()

    def _tell_gauges_again(self) -> None:
        while not self._over.wait(AGAIN_EVERY_S):
            with self._lock:
                for item in list(self._gauges.values()):
                    self._hand_over(item)

    def _hand_over(self, item: Measurement) -> None:
        meter = METERS[item.name]
        if item.name not in self._instruments:
            self._instruments[item.name] = _instrument(item.name, meter)
        instrument, tags = self._instruments[item.name], {"run": self._run, **item.labels}
        match meter.kind:
            case "gauge":
                if item.name not in MOMENTARY:
                    self._gauges[(item.name, *item.labels.values())] = item
                instrument.set(item.value, tags)
            case "counter":
                instrument.inc(item.value, tags)
            case "histogram":
                instrument.observe(item.value, tags)


def _instrument(name: str, meter: Meter) -> Instrument:
    from ray.util import metrics

    tags = ("run", *meter.labels)
    match meter.kind:
        case "gauge":
            made = metrics.Gauge(name, meter.meaning, tag_keys=tags)
        case "counter":
            made = metrics.Counter(name, meter.meaning, tag_keys=tags)
        case "histogram":
            made = metrics.Histogram(
                name, meter.meaning, boundaries=list(BOUNDARIES), tag_keys=tags
            )
    return cast(Instrument, made)
