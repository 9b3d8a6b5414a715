"""How do many runs read on a terminal? The command ``runs``.

Rule: one line a run, which fits as many as there are; what can't be told is a dash.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launch.runs.listing import ListedRun
from launch.text.quantities import UNKNOWN, count_text, rate_text, seconds_text
from launch.text.status_text import STATE_STYLES
from orchestrator.redaction import redacted, secrets_in


def runs_table(runs: Sequence[ListedRun]) -> RenderableType:
    """The runs as a table, with what is wrong with some of them beneath."""
    if not runs:
        return Text("no run lies there: a run is a directory with _tfresume/run.json")
    secrets = secrets_in(os.environ)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("state", no_wrap=True)
    for name in ("step", "rate", "last event", "incidents"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("run", overflow="fold")
    for run in runs:
        table.add_row(
            Text(run.state, style=STATE_STYLES.get(run.state, "")),
            _step(run),
            rate_text(run.steps_per_s),
            UNKNOWN if run.age_s is None else f"{seconds_text(run.age_s)} ago",
            count_text(run.incidents),
            Text(redacted(run.run, secrets)),
        )
    troubles = [
        Text(redacted(f"{run.run}: {run.trouble}", secrets), style="yellow")
        for run in runs
        if run.trouble
    ]
    return Group(table, *troubles)


def _step(run: ListedRun) -> str:
    until = f" of {count_text(run.until_step)}" if run.until_step is not None else ""
    return count_text(run.step) + until
