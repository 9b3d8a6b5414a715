"""Which incidents, saves, fetches and decisions does the journal hold?

Rule: each save is told once, with how it ended: committed, failed, refused, lost, cancelled,
skipped, postponed, or under way. An incident's record comes at its end, so its beginning is counted
back from there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from launch.text.quantities import cut_text, node_text
from orchestrator.decide.incident import budget_told
from orchestrator.decide.timeline import Moment
from orchestrator.journal.event import STAMP, JournalEvent
from orchestrator.journal.run_events import IncidentOver, ProgressMade
from orchestrator.journal.save_events import (
    SaveAgreed,
    SaveCancelled,
    SaveCommitted,
    SaveFailure,
    SaveLost,
    SavePostponed,
    SaveRefused,
    SaveSkipped,
)
from orchestrator.journal.worker_events import CheckpointStaged

SaveEnd = (
    SaveCommitted
    | SaveFailure
    | SaveRefused
    | SaveLost
    | SaveCancelled
    | SaveSkipped
    | SavePostponed
)
_SHOWN_ELSEWHERE = ProgressMade | IncidentOver | CheckpointStaged | SaveAgreed | SaveEnd
LONGEST_REASON = 400
"""Characters of a reason in a table's cell: some lines. The journal has all of it."""


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
    budget: str = ""


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


@dataclass(frozen=True)
class Decision:
    """One line of what the driver noted down."""

    t: float
    attempt: int
    event: str
    text: str


def incidents(moments: Sequence[Moment]) -> tuple[IncidentMark, ...]:
    """Every incident, oldest first."""
    return tuple(
        _incident(moment.at_s, moment.event)
        for moment in moments
        if isinstance(moment.event, IncidentOver)
    )


def _incident(at_s: float, event: IncidentOver) -> IncidentMark:
    return IncidentMark(
        begin=max(0.0, at_s - (event.recovered_s or 0.0)),
        end=at_s,
        kind=event.kind or "unknown",
        rank=event.rank,
        node=node_text(event.node),
        worker=event.worker,
        step=event.step,
        detected_s=event.detected_s,
        recovered_s=event.recovered_s,
        steps_redone=event.steps_redone,
        action=event.action,
        reason=cut_text(event.reason),
        budget=budget_told(event.kind, event.losses, event.losses_allowed),
    )


def saves(moments: Sequence[Moment]) -> tuple[SaveMark, ...]:
    """Every save, by its end."""
    agreed: dict[tuple[int, int], float] = {}
    found: list[SaveMark] = []
    for moment in moments:
        event = moment.event
        if isinstance(event, SaveAgreed):
            agreed[moment.attempt, event.step] = moment.at_s
        elif isinstance(event, SaveEnd):
            begin = agreed.pop(_agreement(agreed, moment.attempt, event), moment.at_s)
            found.append(_save(moment.at_s, event, begin))
    last = moments[-1].at_s if moments else 0.0
    under_way = [
        SaveMark(at_s, last, step, "under way", "", None, None, None, "")
        for (_, step), at_s in agreed.items()
    ]
    return tuple(sorted([*found, *under_way], key=lambda save: save.end))


def _agreement(
    agreed: Collection[tuple[int, int]], attempt: int, event: SaveEnd
) -> tuple[int, int]:
    """The key of what ended: a graph's own counter may have leapt over the step that was agreed on.
    A save that was skipped was never agreed on.
    """
    own = (attempt, event.step)
    if own in agreed or isinstance(event, SaveSkipped):
        return own
    return max((key for key in agreed if key[0] == attempt and key < own), default=own)


def _save(at_s: float, event: SaveEnd, agreed_s: float) -> SaveMark:
    committed = event if isinstance(event, SaveCommitted) else None
    return SaveMark(
        begin=max(0.0, agreed_s),
        end=at_s,
        step=event.step,
        state=event.word.removeprefix("save_"),
        checkpoint=committed.checkpoint if committed else "",
        size_bytes=committed.size_bytes if committed else None,
        stall_s=committed.stall_s if committed else None,
        # the step was reached a little after it had been agreed on
        seconds=round(at_s - agreed_s, 3) if at_s > agreed_s else None,
        reason="" if isinstance(event, SaveCommitted) else cut_text(event.reason),
    )


def stagings(moments: Sequence[Moment]) -> tuple[StagingMark, ...]:
    """Every fetch of a checkpoint by a node."""
    return tuple(
        StagingMark(
            max(0.0, moment.at_s - moment.event.seconds), moment.at_s, node_text(moment.event.node)
        )
        for moment in moments
        if isinstance(moment.event, CheckpointStaged)
    )


def decisions(moments: Sequence[Moment], most: int) -> tuple[Decision, ...]:
    """The newest ``most`` notes that aren't shown elsewhere, oldest first."""
    told = [moment for moment in moments if not isinstance(moment.event, _SHOWN_ELSEWHERE)]
    return tuple(
        Decision(moment.at_s, moment.attempt, moment.event.word, _text(moment.event))
        for moment in told[-most:]
    )


def _text(event: JournalEvent) -> str:
    hidden = {"event", *STAMP, "config", "versions"}
    fields = {
        key: value
        for key, value in event.record().items()
        if key not in hidden and value not in (None, "", [], {})
    }
    reason = cut_text(str(fields.pop("reason", "")), LONGEST_REASON)
    listed = ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in fields.items())
    return f"{reason} ({listed})" if reason and listed else reason or listed


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else node_text(str(value))
