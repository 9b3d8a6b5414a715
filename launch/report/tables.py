"""How do the report's tables read?

Rule: every value is escaped here, and nowhere is markup made from data otherwise. Each cell carries
its column's name, which a phone shows in place of the header.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from launch.report.happenings import IncidentMark
from launch.report.model import Report
from launch.text.quantities import UNKNOWN, bytes_text, count_text, seconds_text
from orchestrator.next_commands import logs_command

MOST_ROWS = 500
"""More rows nobody reads, and a page of thousands opens slowly; what is left out is counted."""
_OPEN = ("under way", "incomplete", "skipped", "cancelled")
"""States that are neither good nor bad."""


@dataclass(frozen=True)
class Cell:
    """A cell; ``number`` cells stand at the right, ``code`` is set in a fixed width, ``short``
    cells are never broken.

    ``chip`` (``good`` or ``bad``) sets the first word off; what follows in ``more`` stays plain.
    """

    value: object
    number: bool = False
    code: bool = False
    short: bool = False
    chip: str = ""
    more: str = ""

    @property
    def text(self) -> str:
        """What is shown."""
        return UNKNOWN if self.value is None else str(self.value)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell | str]],
    marks: Sequence[str] = (),
    empty: str = "None.",
) -> str:
    """An HTML table; ``marks`` are attributes of its rows."""
    if not rows:
        return f'<p class="quiet">{escape(empty)}</p>'
    numbers = [isinstance(cell, Cell) and cell.number for cell in rows[0]]
    head = "".join(
        f"<th{_n(number)}>{escape(name)}</th>"
        for name, number in zip(columns, numbers, strict=True)
    )
    body = "".join(
        f"<tr{marks[index] if marks else ''}>{''.join(map(_cell, row, columns))}</tr>"
        for index, row in enumerate(rows[:MOST_ROWS])
    )
    more = f'<p class="quiet">and {len(rows) - MOST_ROWS} more</p>' if len(rows) > MOST_ROWS else ""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}'


def _cell(content: Cell | str, column: str) -> str:
    cell = content if isinstance(content, Cell) else Cell(content)
    text = escape(cell.text)
    shown = f"<code>{text}</code>" if cell.code and text else f"<span>{text}</span>" if text else ""
    if cell.chip:
        shown = f'<span><span class="chip {cell.chip}">{text}</span> {escape(cell.more)}</span>'
    kind = ' class="k"' if cell.short else _n(cell.number)
    return f'<td{kind} data-label="{escape(column)}">{shown}</td>'


def _n(number: bool) -> str:
    return ' class="n"' if number else ""


def incident_rows(report: Report) -> str:
    """The incidents; a click on one shows its moment in the lanes."""
    columns = (
        "after",
        "what",
        "rank",
        "node",
        "noticed in",
        "back in step after",
        "redone",
        "what was done",
        "budget",
        "more",
    )
    rows = [
        (
            Cell(seconds_text(item.begin), number=True),
            f"{item.kind}: {item.reason}" if item.reason else item.kind,
            Cell(item.rank, number=True),
            Cell(item.node, short=True),
            Cell(seconds_text(item.detected_s), number=True),
            Cell(seconds_text(item.recovered_s), number=True),
            Cell(count_text(item.steps_redone), number=True),
            item.action,
            item.budget,
            Cell(logs_command(report.run, item.worker), code=True),
        )
        for item in report.incidents
    ]
    return table(columns, rows, [_mark(item) for item in report.incidents], "Nothing went wrong.")


def _mark(item: IncidentMark) -> str:
    told = escape(f"{item.kind}, rank {item.rank}: {item.action}", quote=True)
    return (
        f' tabindex="0" data-begin="{item.begin:.4f}" data-end="{item.end:.4f}" data-told="{told}"'
    )


def checkpoint_rows(report: Report) -> str:
    """The checkpoints with their state."""
    rows = [
        (
            Cell(count_text(item.step), number=True),
            Cell(item.label, code=True),
            Cell(bytes_text(item.size_bytes), number=True),
            _state(item.state, item.why, good="good"),
            Cell(item.parent or ("the source" if item.manifest is not None else None), code=True),
            when(item.modified),
        )
        for item in report.checkpoints
    ]
    columns = ("step", "checkpoint", "size", "state", "went on from", "saved")
    return table(columns, rows, empty="None yet.") + _lineage(report)


def _lineage(report: Report) -> str:
    """Which generation went on from which step."""
    links = "".join(f"<li>{escape(link)}</li>" for link in report.lineage)
    return f'<h3>Lineage</h3><ol class="lineage">{links}</ol>' if links else ""


def evaluation_rows(report: Report) -> str:
    """What evaluators found, newest checkpoint first."""
    rows = [
        (
            Cell(count_text(item.step), number=True),
            ", ".join(f"{name} {value:.6g}" for name, value in item.metrics),
            Cell("best", chip="good", more=f"by {item.best}") if item.best else "",
            Cell(item.checkpoint, code=True),
            item.evaluator,
        )
        for item in report.evaluations
    ]
    columns = ("step", "metrics", "best", "checkpoint", "evaluator")
    return table(columns, rows, empty="No evaluator has followed this run.")


def _state(state: str, why: str, good: str) -> Cell:
    chip = "good" if state == good else "" if state in _OPEN else "bad"
    return Cell(state, chip=chip, more=why) if chip else Cell(f"{state}: {why}" if why else state)


def save_rows(report: Report) -> str:
    """The saves with how they ended, newest first."""
    rows = [
        (
            Cell(count_text(item.step), number=True),
            _state(item.state, item.reason, good="committed"),
            Cell(seconds_text(item.begin), number=True),
            Cell(seconds_text(item.seconds), number=True),
            Cell(seconds_text(item.stall_s), number=True),
            Cell(bytes_text(item.size_bytes), number=True),
        )
        for item in reversed(report.saves)
    ]
    return table(
        ("step", "how it ended", "began after", "took", "training stood still", "size"),
        rows,
        empty="None yet.",
    )


def driver_rows(report: Report) -> str:
    """The attempts."""
    rows = [
        (
            Cell(item.attempt, number=True),
            item.holder,
            Cell(seconds_text(item.begin), number=True),
            Cell(seconds_text(item.end - item.begin), number=True),
            item.how,
        )
        for item in report.lives
    ]
    return table(("attempt", "driver", "began after", "lived", "how it ended"), rows)


def config_rows(report: Report) -> str:
    """Versions, then the configuration."""
    listed = "".join(
        f"<li><span>{escape(part)}</span> {escape(version)}</li>"
        for part, version in report.versions
    )
    versions = (
        f'<ul class="versions">{listed}</ul>'
        if listed
        else '<p class="quiet">The journal doesn\'t tell the versions.</p>'
    )
    config = [(Cell(name, code=True), value) for name, value in report.config]
    return f"{versions}<details><summary>The configuration</summary>{table(('key', 'value'), config)}</details>"


def decision_rows(report: Report) -> str:
    """What the driver noted down, newest first."""
    rows: Iterable[tuple[Cell | str, ...]] = (
        (Cell(seconds_text(item.t), number=True), item.event.replace("_", " "), item.text)
        for item in reversed(report.decisions)
    )
    listed = table(("after", "what", "why"), list(rows))
    return (
        f"<details><summary>{len(report.decisions)} notes of the driver</summary>{listed}</details>"
    )


def when(at: float | None) -> str:
    """A moment for people: date and minute in UTC."""
    try:
        return (
            UNKNOWN
            if at is None
            else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        )
    except (OverflowError, ValueError, OSError):
        return UNKNOWN  # a clock that was never set right
