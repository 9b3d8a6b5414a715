"""How do a run's numbers reach Prometheus?

Rule: through Ray's own metrics, so that whoever scrapes the cluster's nodes sees them without
another port; Ray puts ``ray_`` before each name. What is measured is decided in `measurements`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, cast

from orchestrator.driver.measurements import (
    BOUNDARIES,
    METERS,
    Measurement,
    Meter,
    of_event,
    of_progress,
)
from orchestrator.driver.observer import RunProgress
from orchestrator.journal.parsing import parse


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

    def event(self, event: Mapping[str, Any]) -> None:
        """Counts incidents and saves."""
        self._tell(of_event(parse(event)))

    def progress(self, progress: RunProgress) -> None:
        """Sets the gauges."""
        self._tell(of_progress(progress))

    def _tell(self, measurements: Iterable[Measurement]) -> None:
        for item in measurements:
            meter = METERS[item.name]
            if item.name not in self._instruments:
                self._instruments[item.name] = _instrument(item.name, meter)
            instrument, tags = self._instruments[item.name], {"run": self._run, **item.labels}
            match meter.kind:
                case "gauge":
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
