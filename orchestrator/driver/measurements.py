"""Which numbers does a monitoring system get to see of a run?

Rule: a plain function from what observers see to measurements; names and units are fixed, since
people write alerts against them. Counters only grow; a value that isn't known or isn't finite is
left out rather than told as 0.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.driver.observer import RunProgress
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.run_events import AttemptBegan, IncidentOver, RunEnded, StepsTimed
from orchestrator.journal.save_events import (
    SaveCancelled,
    SaveCommitted,
    SaveFailure,
    SaveLost,
    SavePostponed,
    SaveRefused,
    SaveSkipped,
)

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True)
class Meter:
    """One time series: its kind, what it means, and the labels that it has besides ``run``."""

    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()


INCIDENTS = "tfresume_incidents"
METERS: Mapping[str, Meter] = {
    "tfresume_step": Meter("gauge", "The last global step that all workers have finished."),
    "tfresume_until_step": Meter("gauge", "The global step at which the run ends."),
    "tfresume_steps_per_second": Meter("gauge", "Global steps per second."),
    "tfresume_loss": Meter("gauge", "The watched loss of rank 0's last batch."),
    "tfresume_step_part_seconds": Meter(
        "gauge",
        "Seconds of a step by part (input, compute, exchange, apply, save, other, all) and rank.",
        ("part", "rank"),
    ),
    "tfresume_world_size": Meter("gauge", "Workers in the present generation."),
    "tfresume_generation": Meter(
        "gauge", "Number of the present generation; it grows with each change of the group."
    ),
    "tfresume_attempt": Meter("gauge", "Number of the run's driver, from 1."),
    "tfresume_ended_attempt": Meter(
        "gauge", "Number of the driver under which the run ended in order."
    ),
    "tfresume_checkpoint_step": Meter("gauge", "Global step of the newest committed checkpoint."),
    "tfresume_checkpoint_bytes": Meter(
        "gauge", "Size of the newest committed checkpoint in bytes."
    ),
    INCIDENTS: Meter("counter", "Incidents that are over, by kind.", ("kind",)),
    "tfresume_steps_redone": Meter("counter", "Steps that had to be done again."),
    "tfresume_recovery_seconds": Meter(
        "histogram", "Seconds from an incident's first symptom to the first useful step.", ("kind",)
    ),
    "tfresume_saves": Meter(
        "counter",
        "Saves by how they ended: committed, failed, refused, lost, cancelled, skipped.",
        ("state",),
    ),
    "tfresume_save_stall_seconds": Meter(
        "histogram", "Seconds that training stood still for a save."
    ),
}
MOMENTARY = frozenset(("tfresume_steps_per_second", "tfresume_loss"))
"""Gauges that say nothing any more once nobody tells them: no step is taken then."""
WHOLE = frozenset(("tfresume_step_part_seconds",))
"""Gauges that are told all together: a series that is left out has nothing behind it any more."""
BOUNDARIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Of the histograms, in seconds: from a memory copy to a wait for new nodes."""


_OF_CHECKPOINTS = ("tfresume_checkpoint_step", "tfresume_checkpoint_bytes")


@dataclass(frozen=True)
class Measurement:
    """One value for one meter; counters add it."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def of_progress(progress: RunProgress) -> list[Measurement]:
    """What progress says."""
    return _known(
        ("tfresume_step", progress.step),
        ("tfresume_until_step", progress.until),
        ("tfresume_steps_per_second", progress.steps_per_s or None),
        ("tfresume_loss", progress.loss),
        ("tfresume_world_size", progress.world_size),
        ("tfresume_generation", progress.generation),
    )


def of_event(event: JournalEvent) -> list[Measurement]:
    """What a journal event says."""
    match event:
        case AttemptBegan():
            return _known(("tfresume_attempt", event.attempt))
        case RunEnded():
            return _known(("tfresume_ended_attempt", event.attempt))
        case IncidentOver():
            labels = {"kind": event.kind or "unknown"}
            return [
                Measurement(INCIDENTS, 1.0, labels),
                *_known(("tfresume_steps_redone", event.steps_redone or None)),
                *_known(("tfresume_recovery_seconds", event.recovered_s), labels=labels),
            ]
        case StepsTimed():
            return _parts(event)
        case SaveCommitted():
            told = (
                ("tfresume_checkpoint_step", event.step),
                ("tfresume_checkpoint_bytes", event.size_bytes),
                ("tfresume_save_stall_seconds", event.stall_s),
            )
            return [_saved(event), *_known(*told)]
        case (
            SaveFailure()
            | SaveRefused()
            | SaveLost()
            | SaveCancelled()
            | SaveSkipped()
            | SavePostponed()
        ):
            return [_saved(event)]
        case _:
            return []


@dataclass
class Counted:
    """What a run has counted so far: a fold of the journal, so that the next driver counts on.

    Attributes:
        sums: of counters, by name and labels.
        observed: of histograms: how many values fell below which boundary, and their sum.
        newest: of gauges what the journal still holds true, the newest checkpoint's.
    """

    sums: dict[str, float] = field(default_factory=dict)
    observed: dict[str, list[list[float]]] = field(default_factory=dict)
    newest: dict[str, float] = field(default_factory=dict)

    def take(self, event: JournalEvent) -> None:
        """One more event."""
        for item in () if isinstance(event, StepsTimed) else of_event(event):
            match METERS[item.name].kind:
                case "counter":
                    key = _key(item)
                    self.sums[key] = self.sums.get(key, 0.0) + item.value
                case "histogram":
                    below = self.observed.setdefault(
                        _key(item), [[0, 0.0] for _ in range(len(BOUNDARIES) + 1)]
                    )[bisect_left(BOUNDARIES, item.value)]
                    below[0], below[1] = below[0] + 1, below[1] + item.value
                case "gauge" if item.name in _OF_CHECKPOINTS:
                    self.newest[_key(item)] = item.value

    @property
    def incidents(self) -> int:
        """Incidents that are over, of all kinds."""
        told = (value for key, value in self.sums.items() if json.loads(key)[0] == INCIDENTS)
        return int(sum(told))

    def measurements(self) -> list[Measurement]:
        """A counter's sum as one measurement; of a histogram as many as it has had, each the mean of
        those between the same boundaries; and the gauges.
        """
        means = [
            _measurement(key, total / count)
            for key, buckets in self.observed.items()
            for count, total in buckets
            if count
            for _ in range(int(count))
        ]
        told = [_measurement(key, value) for key, value in (self.sums | self.newest).items()]
        return [*told, *means]


def _key(item: Measurement) -> str:
    return json.dumps([item.name, dict(item.labels)])


def _measurement(key: str, value: float) -> Measurement:
    name, labels = json.loads(key)
    return Measurement(name, value, labels)


def _parts(event: StepsTimed) -> list[Measurement]:
    found: list[Measurement] = []
    for rank, parts in event.ranks.items():
        for part, seconds in parts.items():
            told = ("tfresume_step_part_seconds", seconds)
            found += _known(told, labels={"part": part, "rank": rank})
    return found


def _saved(event: JournalEvent) -> Measurement:
    return Measurement("tfresume_saves", 1.0, {"state": event.word.removeprefix("save_")})


def _known(*values: tuple[str, Any], labels: Mapping[str, str] | None = None) -> list[Measurement]:
    return [Measurement(name, float(value), labels or {}) for name, value in _numbers(values)]


def _numbers(values: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, float]]:
    for name, value in values:
        if isinstance(value, int | float) and value - value == 0:
            yield name, float(value)
