"""How does a run's status read on a terminal?

Rule: the line that matters comes first, and nothing is said twice. Every value passes `redaction`
on its way out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launch.runs.slowness import PARTS, step_parts
from launch.runs.status_model import RunStatus
from launch.text.quantities import (
    count_text,
    cut_text,
    node_text,
    rate_text,
    seconds_text,
    share_text,
)
from orchestrator.decide.incident import budget_told
from orchestrator.redaction import redacted_data, secrets_in

STATE_STYLES = {
    "training": "green",
    "done": "green",
    "dead": "red",
    "failed": "red",
    "silent": "yellow",
}
_SHOWN_INCIDENTS = 8
"""Incidents that fit a screen with the rest of the status; ``--json`` has them all."""

_SHOWN_WARNINGS = 4
"""The newest ones; ``--json`` has them all."""

_SHOWN_TROUBLE = 4
"""What spoils more parts of a journal than that spoils hundreds of them."""

_SMALLEST_SHARE = 0.005
"""Parts of a step that are worth a word."""


def status_text(found: RunStatus) -> RenderableType:
    """The status as a table of label and text."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _lines(redacted_data(found.as_dict(), secrets_in(os.environ))):
        table.add_row(
            label,
            Text(
                text, style=STATE_STYLES.get(text.partition(":")[0], "") if label == "state" else ""
            ),
        )
    return Group(Text(redacted_data(found.run), style="bold"), table)


def _lines(found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    yield "state", found["state"] + (f": {cut_text(found['reason'])}" if found["reason"] else "")
    if found["job"]:
        yield "job", _job(found["job"])
    if found["stop_requested"]:
        yield "stop", "asked for; it saves first"
    for text in found["trouble"][:_SHOWN_TROUBLE]:
        yield "trouble", text
    if len(found["trouble"]) > _SHOWN_TROUBLE:
        yield "", f"and {len(found['trouble']) - _SHOWN_TROUBLE} more, which --json names"
    for text in found["warnings"][-_SHOWN_WARNINGS:]:
        yield "warning", text
    yield "step", _progress(found)
    if found["step_times"]:
        yield "step time", step_time_line(found["step_times"])
        yield "", found["why_slow"]
    if found["batches_per_step"] is not None:
        yield (
            "",
            f"{count_text(found['batches_per_step'])} batches make a step, on any number of workers",
        )
    if found["proof"]:
        yield "proof", found["proof"]["told"]
    for number, text in enumerate(found["edits"]):
        yield "" if number else "edits", text
    if found["holder"]:
        yield "driver", f"attempt {found['attempt']}, {found['driver']}: {found['holder']}"
    if found["workers"]:
        yield "workers", f"{found['world_size']} in generation {found['generation']}"
        for worker in found["workers"]:
            yield "", _worker(worker)
    yield "checkpoint", _checkpoint(found)
    if found["next_save_step"] is not None or found["next_save_s"] is not None:
        yield "next save", _next_save(found)
    yield "incidents", _incidents(found)
    for incident in found["incidents"][-_SHOWN_INCIDENTS:]:
        yield "", incident_line(incident)
    yield "goodput", goodput_line(found["goodput"], found["goodput_s"])


def _job(job: dict[str, Any]) -> str:
    code = f", exit code {job['exit_code']}" if job["exit_code"] is not None else ""
    said = f": {cut_text(job['message'])}" if job["message"] else ""
    return f"{job['job']} {job['status'].lower()}{code}{said}; its output: `{job['logs']}`"


def _progress(found: dict[str, Any]) -> str:
    until = f" of {count_text(found['until_step'])}" if found["until_step"] is not None else ""
    parts = [count_text(found["step"]) + until]
    parts += [rate_text(found["steps_per_s"])] if found["steps_per_s"] else []
    name = f" ({found['loss_name']})" if found["loss_name"] else ""
    parts += [f"loss {found['loss']:.6g}{name}"] if found["loss"] is not None else []
    parts += [f"done in {seconds_text(found['eta_s'])}"] if found["eta_s"] is not None else []
    return " · ".join(parts)


def step_time_line(ranks: Mapping[str, Mapping[str, float]]) -> str:
    """``50 ms: compute 62 %, exchange 30 %, …``, the mean over the ranks."""
    parts = step_parts(ranks)
    whole_s = parts["all"]
    shares = [
        f"{name} {share_text(parts[name] / whole_s)}"
        for name in PARTS
        if whole_s > 0 and parts[name] / whole_s >= _SMALLEST_SHARE
    ]
    return f"{seconds_text(whole_s)}: {', '.join(shares)}"


def _worker(worker: dict[str, Any]) -> str:
    place = "standby" if worker["rank"] is None else f"rank {worker['rank']}"
    return f"{place}: {worker['worker']}, pid {worker['pid'] or '?'} on {node_text(worker['node'] or 'an unknown node')}"


def _checkpoint(found: dict[str, Any]) -> str:
    if found["checkpoint"] is None:
        return "none yet"
    rows = found["changed_rows_step"]
    more = "" if rows is None else f"; changed rows up to step {count_text(rows)}"
    return f"{found['checkpoint']} (saved {seconds_text(found['checkpoint_age_s'])} ago{more})"


def _next_save(found: dict[str, Any]) -> str:
    step = (
        f"at step {count_text(found['next_save_step'])}"
        if found["next_save_step"] is not None
        else ""
    )
    due = f"in {seconds_text(found['next_save_s'])}" if found["next_save_s"] is not None else ""
    return " or ".join(part for part in (step, due) if part)


def _incidents(found: dict[str, Any]) -> str:
    count = found["earlier_incidents"] + len(found["incidents"])
    if not count:
        return "none"
    shown = f", the last {_SHOWN_INCIDENTS}:" if count > _SHOWN_INCIDENTS else ""
    return f"{count}, {count_text(found['steps_redone'])} steps redone{shown}"


def incident_line(incident: dict[str, Any]) -> str:
    """One incident as one line: what, which rank and node, why, seconds lost, steps redone, what was
    done, what is left of the budget, and the command for more.
    """
    who = f" rank {incident['rank']}" if incident.get("rank") is not None else ""
    where = f" on {node_text(incident['node'])}" if incident.get("node") else ""
    recovered = incident.get("recovered_s")
    lost = (
        f"first useful step after {seconds_text(recovered)}"
        if recovered is not None
        else "not recovered"
    )
    redone = incident.get("steps_redone") or 0
    done = f"; {incident['action']}" if incident.get("action") else ""
    why = f" ({cut_text(incident['reason'])})" if incident.get("reason") else ""
    return (
        f"{incident.get('kind')}{who}{where}{why}: {lost}, {redone} steps redone{done}{_resized(incident)}"
        f"{_budget(incident)}{_more(incident)}"
    )


def _more(incident: dict[str, Any]) -> str:
    return f"; more: `{incident['logs']}`" if incident.get("logs") else ""


def _budget(incident: dict[str, Any]) -> str:
    told = budget_told(
        str(incident.get("kind")), incident.get("losses"), incident.get("losses_allowed")
    )
    return f"; {told}" if told else ""


def _resized(incident: dict[str, Any]) -> str:
    """What another world size means for the training, where the incident changed it."""
    if not incident.get("effective_batch"):
        return ""
    rate = (
        "learning rate scaled with it"
        if incident.get("on_resize") == "scale_lr"
        else "learning rate kept"
    )
    return f"; effective batch {count_text(incident['effective_batch'])}, {rate}"


def goodput_line(fraction: float, parts: dict[str, float]) -> str:
    """``92.1 %; start 12 s, recovery 1.2 s``."""
    lost = [
        f"{name.removesuffix('_s').replace('_', ' ')} {seconds_text(value)}"
        for name, value in parts.items()
        if name not in ("fraction", "wall_s", "useful_s") and value >= 0.005
    ]
    return f"{share_text(fraction)} of {seconds_text(parts.get('wall_s', 0.0))}" + (
        f"; {', '.join(lost)}" if lost else ""
    )
