"""How do a run's checkpoints read on a terminal? The commands ``checkpoints`` and ``checkpoints
--prune``.

Rule: `orchestrator.store.checkpoints.reports` says in what state each one is; here it's only
written down for people.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from launch.text.quantities import UNKNOWN, bytes_text, count_text, seconds_text
from orchestrator.errors import OutputError
from orchestrator.store.checkpoints.reports import CheckpointsReport
from orchestrator.store.checkpoints.retention import Pruned, prune
from orchestrator.store.objects.location import Location
from orchestrator.store.run.lease import observe

_STYLES = {"good": "green", "corrupt": "red", "incomplete": "yellow", "fenced": "yellow"}


def checkpoints_table(report: CheckpointsReport) -> RenderableType:
    """The checkpoints as a table, newest first, and the run's lineage beneath."""
    if not report.checkpoints:
        return Text("none yet")
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("step", "size", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("checkpoint", overflow="fold")
    table.add_column("from", overflow="fold")
    for row in report.checkpoints:
        age = UNKNOWN if row.age_s is None else seconds_text(row.age_s)
        parent = row.parent or ("the source" if row.manifest is not None else UNKNOWN)
        if row.stands_on:
            parent = f"changed rows over {row.stands_on[-1]}"
        state = f"[{_STYLES[row.state]}]{row.state}[/]"
        table.add_row(
            count_text(row.step),
            bytes_text(row.size_bytes),
            age,
            state,
            escape(row.label),
            escape(parent),
        )
        if row.why:
            table.add_row("", "", "", "", f"[dim]{escape(row.why)}[/dim]", "")
        if row.kept_for:
            table.add_row("", "", "", "", f"[dim]{escape(row.kept_for)}[/dim]", "")
    return Group(table, Text(lineage_line(report), style="dim")) if report.lineage else table


def lineage_line(report: CheckpointsReport) -> str:
    """``lineage: attempt 1 generation 1 from step 500, then ...``, the last few only."""
    links = [
        f"a{link.attempt}-g{link.generation} from step {count_text(link.step)}"
        for link in report.lineage
    ]
    earlier = f"{len(links) - 6} earlier, " if len(links) > 6 else ""
    return f"\nlineage: {earlier}" + ", ".join(links[-6:])


def prune_run(output: Location, *, dry_run: bool = False) -> Pruned:
    """Deletes what the run can't use. Whether a driver may be at work is read from the lease.

    Args:
        dry_run: delete nothing, and return what would be.

    Raises:
        OutputError: nobody has ever held this output, so nothing below it is ours.
    """
    observed = observe(output)
    if observed.holder is None:
        raise OutputError(
            f"there is no run at {output.shown}",
            remedy="Give the --output of a run",
            details={"missing": True},
        )
    return prune(output, held=not (observed.released or observed.dead), dry_run=dry_run)


def pruned_text(pruned: Pruned, *, dry_run: bool = False) -> str:
    """What was deleted, or would be, in one line; each of them by name where it only would be."""
    if not pruned.checkpoints and not pruned.leftovers:
        return "nothing to prune"
    fenced, files = (
        _counted(len(pruned.checkpoints), "fenced checkpoint"),
        _counted(len(pruned.leftovers), "file"),
    )
    freed = bytes_text(pruned.freed_bytes)
    if not dry_run:
        return f"deleted {fenced} and {files} of unfinished saves, {freed} freed"
    names = "".join(f"\n  {name}" for name in (*pruned.checkpoints, *pruned.leftovers))
    return f"would delete {fenced} and {files} of unfinished saves and free {freed}:{names}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
