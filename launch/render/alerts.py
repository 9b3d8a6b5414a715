"""When should somebody be woken for a run, or look at it by day?

Rule: each alert says what no recovery of the run's own has mended, over all drivers that the run has
had: a driver's series end with it, and its successor's begin where they ended, so everything is
asked ``by (run)``. What to do stands in docs/operations.md, a line for each alert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from launch.render.metric_names import exported

RUNBOOK = "docs/operations.md#alerts"


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        expr: PromQL with one result a run.
        for_: how long it has to hold, in Prometheus' own spelling.
        summary: one sentence with the run's label in it.
    """

    name: str
    expr: str
    for_: str
    severity: Literal["critical", "warning"]
    summary: str


def _now(meter: str) -> str:
    return f"max by (run) ({exported(meter)})"


def _lately(meter: str, function: str, window: str) -> str:
    return f"max by (run) ({function}({exported(meter)}[{window}]))"


def _before(meter: str, window: str) -> str:
    return f"max by (run) ({exported(meter)} offset {window})"


def _unchanged(meter: str, window: str) -> str:
    """No new value for a window, and known for as long: a run that has just begun isn't late."""
    return f"changes({_now(meter)}[{window}:1m]) == 0 and {_before(meter, window)}"


def _grown(meter: str, which: str, window: str) -> str:
    """By how much a counter has grown, from nothing on: ``increase`` passes over the step from no
    series to the first sample, and a new driver's series, which begins at the old one's total, must
    not count that again, also where there was no driver for up to a day.
    """
    counter = f"{exported(meter)}{{{which}}}"
    total = f"sum by (run) (max by (run, kind, state) ({counter}))"
    earlier = f"max_over_time({counter}[1d] offset {window})"
    return f"{total} - (sum by (run) (max by (run, kind, state) ({earlier})) or {total} * 0)"


_RUNS = _now("tfresume_attempt")  # a driver's gauges are there as long as it lives
_STARTED = _lately("tfresume_attempt", "last_over_time", "3h")
_ENDED = _lately("tfresume_ended_attempt", "last_over_time", "3h")
_NEVER_SAVED = (
    f"{_before('tfresume_step', '1h')} unless on (run) {_now('tfresume_checkpoint_step')}"
)
_RATE = "tfresume_steps_per_second"

ALERTS = (
    Alert(
        "TfresumeNoProgress",
        f"{_unchanged('tfresume_step', '15m')} and on (run) {_RUNS}",
        "5m",
        "critical",
        "{{ $labels.run }} stands at one step for 20 minutes",
    ),
    Alert(
        "TfresumeDriverGone",
        f"({_STARTED} > on (run) ({_ENDED} or {_STARTED} * 0)) unless on (run) {_RUNS}",
        "5m",
        "critical",
        "{{ $labels.run }} has no driver any more and didn't end in order",
    ),
    Alert(
        "TfresumeNoCheckpoint",
        f"(({_unchanged('tfresume_checkpoint_step', '1h')}) or ({_NEVER_SAVED}))"
        f" and on (run) changes({_now('tfresume_step')}[1h:1m]) > 0 and on (run) {_RUNS}",
        "10m",
        "critical",
        "{{ $labels.run }} trains and has committed no checkpoint for over an hour",
    ),
    Alert(
        "TfresumeSavesFail",
        _grown("tfresume_saves", 'state=~"failed|refused|lost"', "30m") + " > 1",
        "1m",
        "warning",
        "{{ $labels.run }}: {{ $value }} saves came to nothing within half an hour",
    ),
    Alert(
        "TfresumeManyIncidents",
        _grown("tfresume_incidents", 'kind!~"preempted|released"', "1h") + " > 10",
        "1m",
        "warning",
        "{{ $labels.run }}: {{ $value }} incidents within an hour",
    ),
    Alert(
        "TfresumeDriverRestarts",
        f"changes({_now('tfresume_attempt')}[1h:1m]) > 2",
        "1m",
        "warning",
        "{{ $labels.run }}: its driver was started {{ $value }} times anew within an hour",
    ),
    Alert(
        "TfresumeSmallGroup",
        f"{_now('tfresume_world_size')} < on (run) {_lately('tfresume_world_size', 'max_over_time', '6h')}",
        "30m",
        "warning",
        "{{ $labels.run }} trains on {{ $value }} workers, fewer than it had, for half an hour",
    ),
    Alert(
        "TfresumeSlow",
        f"{_lately(_RATE, 'avg_over_time', '10m')}"
        f" < on (run) 0.5 * {_lately(_RATE, 'avg_over_time', '6h')}",
        "20m",
        "warning",
        "{{ $labels.run }} takes {{ $value }} steps a second, less than half of its usual",
    ),
)


def rule_groups() -> dict[str, Any]:
    """The alerts as a Prometheus rule file; the ``spec`` of a PrometheusRule is the same."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            "for": alert.for_,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "runbook": RUNBOOK},
        }
        for alert in ALERTS
    ]
    return {"groups": [{"name": "tfresume", "rules": rules}]}
