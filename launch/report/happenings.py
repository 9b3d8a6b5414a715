"""Which incidents, saves, fetches and decisions does the journal hold?

Rule: each save is told once, with how it ended: committed, failed, refused, lost, cancelled,
skipped, postponed, or under way. An incident's record comes at its end, so its beginning is counted
back from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launch.text.quantities import cut_text, node_text
from orchestrator.decide.timeline import Moment, number_of

_ENDS = {
    "save_committed": "committed",
    "save_failed": "failed",
    "save_refused": "refused",
    "save_lost": "lost",
    "save_cancelled": "cancelled",
    "save_skipped": "skipped",
    "save_postponed": "postponed",
}
LONGEST_REASON = 400
_UNTOLD = {"progress", "incident", "staging", "save_agreed", *_ENDS}


@dataclass(frozen=True)
class IncidentMark:
    """An incident from its first symptom (``begin``) to the first useful step (``end``), seconds
    since the run's first event.
    """

    begin: float
    end: float
    kind: str
    rank: int | None
    node: str
    worker: str
    step: int | None
    detected_s: float | None
    recovered_s: float | None
    steps_redone: int
    action: str
    reason: str


@dataclass(frozen=True)
class SaveMark:
    """A save from its agreement to its end."""

    begin: float
    end: float
    step: int
    state: str
    checkpoint: str
    size_bytes: float | None
    stall_s: float | None
    seconds: float | None
    reason: str


@dataclass(frozen=True)
class StagingMark:
    """A node fetching the checkpoint."""

    begin: float
    end: float
    node: str
    size_bytes: float | None
    cached: bool


@dataclass(frozen=True)
class Decision:
    """One line of what the driver noted down."""

    t: float
    attempt: int
    event: str
    text: str


def incidents(moments: Sequence[Moment]) -> tuple[IncidentMark, ...]:
    """Every incident, oldest first."""
    return tuple(_incident(moment) for moment in moments if moment.kind == "incident")


def _incident(moment: Moment) -> IncidentMark:
    event = moment.event
    recovered = _optional(event.get("recovered_s"))
    return IncidentMark(
        max(0.0, moment.at_s - (recovered or 0.0)),
        moment.at_s,
        str(event.get("kind") or "unknown"),
        event.get("rank"),
        node_text(str(event.get("node") or "")),
        str(event.get("worker") or ""),
        event.get("step"),
        _optional(event.get("detected_s")),
        recovered,
        int(event.get("steps_redone") or 0),
        str(event.get("action") or ""),
        cut_text(str(event.get("reason") or "")),
    )


def saves(moments: Sequence[Moment]) -> tuple[SaveMark, ...]:
    """Every save, by its end."""
    agreed: dict[tuple[Any, Any], float] = {}
    found: list[SaveMark] = []
    for moment in moments:
        key = (moment.attempt, moment.event.get("step"))
        if moment.kind == "save_agreed":
            agreed[key] = moment.at_s
        elif moment.kind in _ENDS:
            found.append(_save(moment, agreed.pop(key, moment.at_s), _ENDS[moment.kind]))
    last = moments[-1].at_s if moments else 0.0
    under_way = [
        SaveMark(at_s, last, int(key[1] or 0), "under way", "", None, None, None, "")
        for key, at_s in agreed.items()
    ]
    return tuple(sorted([*found, *under_way], key=lambda save: save.end))


def _save(moment: Moment, agreed_s: float, state: str) -> SaveMark:
    event = moment.event
    seconds = _optional(event.get("seconds"))
    begin = moment.at_s - seconds if seconds is not None else agreed_s
    if seconds is None and moment.at_s > agreed_s:
        # the step was reached a little after it had been agreed on
        seconds = round(moment.at_s - agreed_s, 3)
    return SaveMark(
        max(0.0, begin),
        moment.at_s,
        int(event.get("step") or 0),
        state,
        str(event.get("checkpoint") or ""),
        _optional(event.get("size_bytes")),
        _optional(event.get("stall_s")),
        seconds,
        cut_text(str(event.get("reason") or "")),
    )


def stagings(moments: Sequence[Moment]) -> tuple[StagingMark, ...]:
    """Every fetch of a checkpoint by a node."""
    return tuple(
        StagingMark(
            max(0.0, moment.at_s - number_of(moment.event.get("seconds"))),
            moment.at_s,
            node_text(str(moment.event.get("node") or "")),
            _optional(moment.event.get("size_bytes")),
            bool(moment.event.get("cached")),
        )
        for moment in moments
        if moment.kind == "staging"
    )


def decisions(moments: Sequence[Moment], most: int) -> tuple[Decision, ...]:
    """The newest ``most`` notes that aren't shown elsewhere, oldest first."""
    told = [moment for moment in moments if moment.kind not in _UNTOLD]
    return tuple(
        Decision(moment.at_s, moment.attempt, moment.kind, _text(moment)) for moment in told[-most:]
    )


def _text(moment: Moment) -> str:
    hidden = {"event", "at", "t_s", "attempt", "config", "versions"}
    fields = {
        key: value
        for key, value in moment.event.items()
        if key not in hidden and value not in (None, "", [], {})
    }
    reason = cut_text(str(fields.pop("reason", "")), LONGEST_REASON)
    listed = ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in fields.items())
    return f"{reason} ({listed})" if reason and listed else reason or listed


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else node_text(str(value))


def _optional(value: Any) -> float | None:
    return number_of(value) if isinstance(value, int | float) else None
