"""What does the report of a run say?

Rule: everything on the page is a field here, made by plain functions from the journal, the run
record, the status and the list of checkpoints. Times are seconds since the run's first event; the
page adds nothing of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.report.evaluations import EvaluationRow
from launch.report.happenings import (
    Decision,
    IncidentMark,
    SaveMark,
    StagingMark,
    decisions,
    incidents,
    saves,
    stagings,
)
from launch.report.lanes import Life, RankSpan, lanes, lives
from launch.report.series import Point, points, smoothed, thinned
from launch.runs.history import History
from launch.runs.status_model import RunStatus
from orchestrator.decide.goodput import Span, Spent, spans
from orchestrator.redaction import redacted_data
from orchestrator.store.checkpoints.reports import CheckpointRow
from orchestrator.store.run.lineage import TakeOver

MOST_DECISIONS = 400
"""Rows of the table of decisions: a page of some hundred opens at once, and of a long run the
newest are wanted.
"""


@dataclass(frozen=True)
class TimeShare:
    """How long the run spent on one kind of thing."""

    kind: str
    seconds: float
    fraction: float


@dataclass(frozen=True)
class Report:
    """What the page shows."""

    run: str
    source: str
    state: str
    reason: str
    trouble: tuple[str, ...]
    begun_at: float | None
    made_at: float
    seconds: float
    wall_s: float
    start_step: int | None
    step: int | None
    until_step: int | None
    checkpoint: str | None
    steps_redone: int
    goodput: float
    shares: tuple[TimeShare, ...]
    series: tuple[Point, ...]
    loss_name: str
    step_times: Mapping[str, Mapping[str, float]]
    why_slow: str
    lineage: tuple[str, ...]
    lanes: tuple[RankSpan, ...]
    lives: tuple[Life, ...]
    spans: tuple[Span, ...]
    incidents: tuple[IncidentMark, ...]
    saves: tuple[SaveMark, ...]
    stagings: tuple[StagingMark, ...]
    decisions: tuple[Decision, ...]
    checkpoints: tuple[CheckpointRow, ...]
    evaluations: tuple[EvaluationRow, ...]
    proof: str
    edits: tuple[str, ...]
    config: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]


def report(
    status: RunStatus,
    seen: History,
    record: Mapping[str, Any],
    checkpoints: Sequence[CheckpointRow],
    *,
    made_at: float,
    lineage: Sequence[TakeOver] = (),
    evaluations: Sequence[EvaluationRow] = (),
) -> Report:
    """The report of a run.

    Args:
        status: its status at ``made_at``.
        seen: its journal.
        record: the run record's fields.
        made_at: unix seconds.
        lineage: which generation went on from which step, oldest first.
        evaluations: what evaluators found, newest first.
    """
    moments = seen.moments
    account = seen.account
    begun = moments[0].event.at if moments else None
    config = (seen.begun.config if seen.begun else None) or record.get("config") or {}
    return Report(
        run=status.run,
        source=status.source,
        state=status.state,
        reason=status.reason,
        trouble=status.trouble,
        begun_at=begun,
        made_at=made_at,
        seconds=max([moment.at_s for moment in moments], default=0.0),
        wall_s=account.wall_s,
        start_step=status.start_step,
        step=status.step,
        until_step=status.until_step,
        checkpoint=status.checkpoint,
        steps_redone=status.steps_redone,
        goodput=account.fraction,
        shares=tuple(
            _share(kind, getattr(account, f"{kind.value}_s"), account.wall_s) for kind in Spent
        ),
        series=thinned(smoothed(points(moments))),
        loss_name=status.loss_name,
        step_times=status.step_times,
        why_slow=status.why_slow,
        lineage=tuple(
            f"attempt {link.attempt}, generation {link.generation} from step {link.step:,}"
            for link in lineage
        ),
        lanes=lanes(moments),
        lives=lives(moments),
        spans=spans(moments),
        incidents=incidents(moments),
        saves=saves(moments),
        stagings=stagings(moments),
        decisions=decisions(moments, MOST_DECISIONS),
        checkpoints=tuple(checkpoints),
        evaluations=tuple(evaluations),
        proof=str(redacted_data((status.proof or {}).get("told", ""))),
        edits=tuple(redacted_data(list(status.edits))),
        config=tuple(flat(redacted_data(config))),
        versions=tuple(flat(seen.begun.versions if seen.begun else {})),
    )


def _share(kind: Spent, seconds: float, wall_s: float) -> TimeShare:
    return TimeShare(kind.value, round(seconds, 3), seconds / wall_s if wall_s > 0 else 0.0)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and texts; what is empty or not set is left out."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{name}.")
        elif value not in (None, "", [], ()):
            found.append(
                (
                    f"{prefix}{name}",
                    ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value),
                )
            )
    return found
