"""How does the end of a run read?

Rule: first how it ended, then where the result lies and what was lost on the way; for anything but
a finished run, how to go on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from launch.text.quantities import count_text
from launch.text.status_text import goodput_line, incident_line
from orchestrator.redaction import redacted, secrets_in

if TYPE_CHECKING:
    from orchestrator.driver.result import RunResult

_STYLE = {
    "done": "green bold",
    "end of data": "green bold",
    "stopped": "yellow bold",
    "failed": "red bold",
}


def result_text(result: RunResult) -> RenderableType:
    """The outcome of a run, for people."""
    secrets = secrets_in(os.environ)
    reason = f": {result.reason}" if result.reason else ""
    lines = [Text(redacted(f"{result.status}{reason}", secrets), style=_STYLE[result.status])]
    lines += [Text("  " + redacted(line, secrets)) for line in _lines(result)]
    return Group(*lines)


def _lines(result: RunResult) -> list[str]:
    workers = f"{result.world_size} worker{'s' if result.world_size != 1 else ''}"
    steps = f"steps {count_text(result.start_step)} to {count_text(result.final_step)}"
    lines = [f"{steps} on {workers}" if result.world_size else steps]
    if result.checkpoint:
        lines.append(f"checkpoint {result.checkpoint}")
    for incident in result.incidents:
        lines.append("incident: " + incident_line(dict(incident)))
    if result.goodput:
        lines.append(
            "goodput " + goodput_line(float(result.goodput["fraction"]), dict(result.goodput))
        )
    if result.error:
        lines += [f"error: {result.error.get('message')}"]
        lines += (
            [str(result.error["details"]["traceback"])]
            if result.error.get("details", {}).get("traceback")
            else []
        )
        lines += [f"what to do: {result.error.get('remedy')}"] if result.error.get("remedy") else []
    if result.status in ("stopped", "failed"):
        lines.append("the same command goes on from here")
    return lines
