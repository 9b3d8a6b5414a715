"""How does ``tfresume inspect`` look to people?

Rule: what decides about a resumption comes first (train op, inputs, checkpoint), long lists are cut
at a stated number of rows with the rest counted, and names from the file are shown as they are,
never as markup or terminal codes.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.graph.inspect_report import Inspection, VariableEntry
from orchestrator.graph.variables.memory import in_words
from orchestrator.graph.worker_graph import Shape

ROWS = 40
"""Rows of one table before the rest is only counted; ``--json`` has them all."""


OUTPUTS = 5
"""Of the outputs, of which the first few matter."""


def render_inspect(report: Inspection, console: Console) -> None:
    """Print the whole report."""
    _head(report, console)
    _train_ops(report, console)
    _inputs(report, console)
    _outputs(report, console)
    _variables(report, console)
    _checkpoint(report, console)
    _surroundings(report, console)
    _reaching_out(report, console)
    _problems(report, console)


def clean(text: str) -> str:
    """A name from a file as rich may print it: no markup, no control characters."""
    return escape("".join(character if character.isprintable() else "�" for character in text))


def shape_text(shape: Shape) -> str:
    """``[?, 128]``, or ``any`` for an unknown rank."""
    return (
        "any"
        if shape is None
        else escape("[" + ", ".join("?" if size is None else str(size) for size in shape) + "]")
    )


def names_text(names: Sequence[str], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return clean(", ".join(names[:shown])) + more


def _head(report: Inspection, console: Console) -> None:
    origin, totals = report.origin, report.totals
    console.print(f"[bold]{clean(report.source)}[/bold]  {in_words(report.size_bytes)}")
    written = f"TensorFlow {clean(origin.tensorflow) or 'unknown'}" + (
        f" ({clean(origin.git)})" if origin.git else ""
    )
    console.print(
        f"written by {written}, GraphDef version {origin.producer}; looked at as TensorFlow {origin.checked_against} would"
    )
    functions = (
        f", {totals.functions} functions with {totals.function_nodes} nodes"
        if totals.functions
        else ""
    )
    console.print(f"{totals.nodes} nodes of {len(totals.op_types)} operation types{functions}")
    most = ", ".join(f"{clean(op)} {count}" for op, count in list(totals.op_types.items())[:8])
    console.print(f"  most: {most}")


def _train_ops(report: Inspection, console: Console) -> None:
    table = _table("Train ops", "operation", "kind", "updates", "optimizer", "also writes", "run")
    for item in report.train_ops[:ROWS]:
        mark = "[green]yes[/green]" if item.op in report.chosen_train_ops else ""
        updates = f"{len(item.updates)}: {names_text(item.updates, 2)}"
        table.add_row(
            clean(item.op),
            item.kind,
            updates,
            ", ".join(item.optimizers),
            names_text(item.also_writes, 2),
            mark,
        )
    _show(table, len(report.train_ops), "no operation trains this graph", console)
    step = report.step
    counted = (
        "the graph counts no steps"
        if step is None
        else f"steps are counted in {clean(step.variable)}"
    )
    if step is not None and step.increment not in (1, None):
        counted += f", {step.increment} at a time"
    console.print(
        f"{counted}; losses: {names_text(report.losses) or 'none is named, and no gradients tell'}"
    )


def _inputs(report: Inspection, console: Console) -> None:
    table = _table("Inputs", "tensor", "from", "type", "shape", "needed", "filled by")
    for item in report.inputs[:ROWS]:
        needed = (
            ("[green]yes[/green]" if not item.optional else "has a default") if item.needed else ""
        )
        filled = names_text(item.fed_by, 2) + (" (queue runner)" if item.runner else "")
        table.add_row(
            clean(item.name), item.origin, item.dtype, shape_text(item.shape), needed, filled
        )
    _show(table, len(report.inputs), "nothing has to be fed", console)


def _outputs(report: Inspection, console: Console) -> None:
    table = _table("Outputs, the likeliest prediction first", "tensor", "type", "kind", "since")
    for item in report.outputs[:OUTPUTS]:
        table.add_row(clean(item.name), item.dtype, item.kind, clean(item.why))
    _show(table, len(report.outputs), "nothing looks like a prediction", console)


def _variables(report: Inspection, console: Console) -> None:
    totals = report.totals
    title = f"Variables: {totals.variables}, {in_words(totals.variable_bytes)}, {in_words(totals.trainable_bytes)} of it trainable"
    table = _table(title, "name", "type", "shape", "size", "what", "checkpoint")
    for item in report.variables[:ROWS]:
        size = "" if item.size_bytes is None else in_words(item.size_bytes)
        found = {"yes": "[green]yes[/green]", "": ""}.get(
            item.in_checkpoint, f"[red]{item.in_checkpoint}[/red]"
        )
        table.add_row(
            clean(item.name),
            f"{item.dtype} {item.kind}",
            shape_text(item.shape),
            size,
            _what(item),
            found,
        )
    _show(table, len(report.variables), "the graph has no variables", console)


def _what(item: VariableEntry) -> str:
    words = ["trainable"] if item.trainable else []
    if item.slot_of:
        words.append(f"slot of {clean(item.slot_of)}")
    if item.part_of:
        words.append(f"part of {clean(item.part_of)}")
    if item.local:
        words.append("local")
    if not item.needed:
        words.append("not used in training")
    return ", ".join(words)


def _checkpoint(report: Inspection, console: Console) -> None:
    saver, found = report.saver, report.checkpoint
    if saver.usable:
        kept = f"keeps {saver.max_to_keep}" if saver.max_to_keep else "keeps all"
        sharded = ", sharded" if saver.sharded else ""
        console.print(
            f"\n[bold]Saver[/bold]: format {saver.format}{sharded}, {kept}, {saver.variables} variables, {saver.others} others"
        )
    else:
        console.print(
            "\n[bold]Saver[/bold]: [yellow]the graph has none that works; variables go by their own names[/yellow]"
        )
    if found is None:
        console.print("[bold]Checkpoint[/bold]: none was looked at")
        return
    console.print(f"[bold]Checkpoint[/bold]: {found.tensors} tensors")
    for names, said, colour in (
        (found.missing, "not in the checkpoint", "yellow"),
        (found.different, "not as in the graph", "red"),
        (found.unused, "taken by no variable of the graph", "dim"),
    ):
        if names:
            console.print(f"  [{colour}]{len(names)} {said}[/{colour}]: {names_text(names, 5)}")


def _surroundings(report: Inspection, console: Console) -> None:
    if report.devices:
        table = _table("Devices", "as saved", "nodes", "in functions", "becomes")
        for item in report.devices[:ROWS]:
            becomes = clean(item.becomes) or "the worker's own"
            table.add_row(clean(item.device), str(item.nodes), str(item.function_nodes), becomes)
        _show(table, len(report.devices), "", console)
    if report.summaries:
        console.print(
            f"\n[bold]Summaries[/bold]: {len(report.summaries)}: {names_text([tag for tag, _ in report.summaries], 6)}"
        )
    if report.collections:
        listed = ", ".join(f"{clean(key)} {count}" for key, count in report.collections.items())
        console.print(f"\n[bold]Collections[/bold]: {listed}")


def _reaching_out(report: Inspection, console: Console) -> None:
    acting = [item for item in report.reaching_out if item.nodes]
    idle = [item for item in report.reaching_out if not item.nodes]
    if acting:
        table = _table(
            "Operations that reach beyond the graph, and that training runs",
            "operation",
            "what",
            "nodes",
            "names",
        )
        for item in acting[:ROWS]:
            table.add_row(
                item.op_type,
                f"[red]{item.reach}[/red]",
                names_text(item.nodes),
                names_text(item.names),
            )
        _show(table, len(acting), "", console)
    if idle:
        listed = ", ".join(f"{item.op_type} ({item.reach})" for item in idle)
        console.print(f"\nnever run in training: {listed}")


def _problems(report: Inspection, console: Console) -> None:
    for problem in report.problems:
        colour = "red" if problem.severity == "error" else "yellow"
        console.print(
            f"[{colour}]{problem.severity}[/{colour}] {problem.code}: {clean(problem.message)}"
        )
    for repair in report.repairs[:ROWS]:
        console.print(f"[yellow]repaired[/yellow] {clean(repair)}")


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="",
        box=None,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _show(table: Table, total: int, otherwise: str, console: Console) -> None:
    console.print()
    if not table.row_count:
        console.print(f"[yellow]{otherwise}[/yellow]")
        return
    console.print(table)
    if total > table.row_count:
        console.print(f"… and {total - table.row_count} more; --json lists them all")
