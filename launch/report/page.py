"""How does a report become one page that needs nothing but itself?

Rule: template, style and script are files of this package, put together in one pass; the data goes
in as JSON in which no ``<`` is left. The page's own policy forbids it to load anything.
"""

from __future__ import annotations

import json
import re
from html import escape
from importlib.metadata import version
from importlib.resources import files

from launch.report import tables
from launch.report.model import Report, TimeShare
from launch.report.slow import slow_section
from launch.terminal import plain_data
from launch.text.quantities import count_text, seconds_text, share_text

_DRAWN = (
    "series",
    "lanes",
    "lives",
    "spans",
    "incidents",
    "saves",
    "stagings",
    "seconds",
    "start_step",
)
_SHOWN_TROUBLE = 4
"""As `status` shows: what spoils more parts of a journal than that spoils hundreds of them."""
_GOOD, _BAD, _WAIT = (
    {"training", "done"},
    {"failed", "dead"},
    {"silent", "waiting", "recovering", "stopping"},
)
_WORDS = {
    "useful": "training",
    "start": "start",
    "staging": "fetching the checkpoint",
    "save_stall": "standing still for saves",
    "recovery": "recovering",
    "redone": "steps done twice",
    "waiting": "waiting for workers",
}


def page(report: Report) -> str:
    """The report as one HTML document."""
    values = (
        _head(report)
        | _goodput(report)
        | {
            "tiles": "".join(
                f'<div class="tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>'
                for big, small in tiles(report)
            ),
            "lanes_legend": _lanes_legend(report),
            "loss_name": escape(f": {report.loss_name}" if report.loss_name else ""),
            "slow": slow_section(report),
            "lanes_alt": escape(_lanes_alt(report), quote=True),
            "incidents": tables.incident_rows(report),
            "checkpoints": tables.checkpoint_rows(report),
            "evaluations": tables.evaluation_rows(report),
            "saves": tables.save_rows(report),
            "drivers": tables.driver_rows(report),
            "config": tables.config_rows(report),
            "decisions": tables.decision_rows(report),
            "style": _asset("style.css"),
            "script": _asset("script.js"),
            "data": _data(report),
        }
    )
    # One pass: what data holds is never looked at again
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], _asset("template.html"))


def _asset(name: str) -> str:
    return (files("launch.report") / name).read_text(encoding="utf-8")


def _data(report: Report) -> str:
    drawn = {name: plain_data(getattr(report, name)) for name in _DRAWN}
    for span, told in zip(report.spans, drawn["spans"], strict=True):
        told["kind"] = span.kind.value
    text = json.dumps(drawn, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _head(report: Report) -> dict[str, str]:
    state_class = (
        "good"
        if report.state in _GOOD
        else "bad"
        if report.state in _BAD
        else "wait"
        if report.state in _WAIT
        else ""
    )
    proof = f"; {report.proof}" if report.proof else ""
    edits = "".join(f"; {text}" for text in report.edits)
    begun = f", begun {tables.when(report.begun_at)}" if report.begun_at is not None else ""
    return {
        "title": escape(f"{report.run.rstrip('/').rpartition('/')[2]}: {report.state}"),
        "run": escape(report.run),
        "state": escape(report.state),
        "state_class": state_class,
        "reason": escape(report.reason),
        "trouble": "".join(
            f'<p class="line trouble">{escape(text)}</p>' for text in _trouble(report.trouble)
        ),
        "origin": escape(f"continues {report.source or 'an unknown source'}{begun}{proof}{edits}"),
        "made": escape(f"Made {tables.when(report.made_at)} by tfresume {version('tfresume')}."),
    }


def _trouble(told: tuple[str, ...]) -> tuple[str, ...]:
    more = len(told) - _SHOWN_TROUBLE
    return told[:_SHOWN_TROUBLE] + (
        (f"And {more} more, which `tfresume logs` names.",) if more > 0 else ()
    )


def tiles(report: Report) -> tuple[tuple[str, str], ...]:
    """The headline numbers, each with what it means."""
    until = (
        f"of {count_text(report.until_step)}" if report.until_step is not None else "the last step"
    )
    count = len(report.incidents)
    redone = (
        "no step lost"
        if not report.steps_redone
        else f"{count_text(report.steps_redone)} steps done twice"
    )
    good = [item for item in report.checkpoints if item.state == "good"]
    bad = (
        f"no good checkpoint; {len(report.checkpoints)} can't be used"
        if report.checkpoints
        else "no checkpoint yet"
    )
    newest = (
        (count_text(good[0].step), f"newest checkpoint; {len(good)} kept")
        if good
        else ("none", bad)
    )
    return (
        (count_text(report.step), f"step {until}, from {count_text(report.start_step)}"),
        (share_text(report.goodput), f"goodput: useful time of {seconds_text(report.wall_s)}"),
        (
            count_text(count),
            f"{'incident' if count == 1 else 'incidents'}, {redone}" if count else "incidents",
        ),
        newest,
    )


def _goodput(report: Report) -> dict[str, str]:
    shown = [share for share in report.shares if share.seconds > 0]
    told = ", ".join(f"{_WORDS[share.kind]} {share_text(share.fraction)}" for share in shown)
    return {
        "goodput_line": escape(
            f"{seconds_text(report.wall_s)} of wall time, each second counted once."
        ),
        "goodput_alt": escape(told or "no time has passed", quote=True),
        "goodput_bar": "".join(
            f'<i class="{share.kind}" style="flex-grow:{share.fraction:.6f}"></i>'
            for share in shown
        ),
        "goodput_legend": "".join(map(_legend, shown)),
    }


def _legend(share: TimeShare) -> str:
    amount = f"{share_text(share.fraction)}, {seconds_text(share.seconds)}"
    return f'<li><i class="{share.kind}"></i>{_WORDS[share.kind]} <span>{amount}</span></li>'


def _lanes_legend(report: Report) -> str:
    """What the lanes of this run show; nothing else."""
    held: dict[int, str] = {}
    replaced = False
    for stretch in sorted(report.lanes, key=lambda item: item.begin):
        replaced = replaced or held.get(stretch.rank, stretch.worker) != stretch.worker
        held[stretch.rank] = stretch.worker
    states = {save.state for save in report.saves}
    entries = (
        (report.lanes, '<i class="g0"></i><i class="g1"></i>a worker in its rank'),
        (replaced, '<i class="new"></i>another worker takes the rank'),
        (report.incidents, '<i class="bad"></i>incident, until the first useful step'),
        ("committed" in states, '<i class="save"></i>save committed'),
        (
            states - {"committed", "under way"},
            '<i class="save failed"></i>save that came to nothing',
        ),
        (report.stagings, '<i class="stage"></i>checkpoint fetched'),
    )
    return "".join(f"<li>{text}</li>" for there, text in entries if there)


def _lanes_alt(report: Report) -> str:
    ranks = len({stretch.rank for stretch in report.lanes})
    generations = max((stretch.generation for stretch in report.lanes), default=0)
    return f"{ranks} ranks through {generations} generations, {len(report.incidents)} incidents, {len(report.saves)} saves"
