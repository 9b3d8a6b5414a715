"""How does ``tfresume check`` look to people?

Rule: the verdict first, then every reason with its nodes, cause and remedy, errors before warnings.
One reading tells the whole list of things to do.
"""

from __future__ import annotations

from collections import Counter

from rich.console import Console

from launch.text.inspect_text import clean, names_text, shape_text
from launch.text.table_text import render_sharing
from orchestrator.graph.batch_scale import ScaleKind
from orchestrator.graph.check import CheckReport, ModeVerdict
from orchestrator.graph.problem import Problem
from orchestrator.graph.repetition.gradient_scale import gradient_seams
from orchestrator.graph.variables.memory import in_words
from orchestrator.graph.worker_graph import WorkerGraph

NAMES = 5
"""Node names shown with a problem; ``--json`` has them all."""
SCALE_WORDS: dict[ScaleKind, str] = {
    "mean": "of a mean over rows",
    "sum": "of a sum over rows",
    "masked": "of a mean over as many rows as the data says",
    "nonlinear": "of what isn't linear in rows",
    "mixed": "of a sum over rows and a penalty",
    "unknown": "of a loss of which that couldn't be told",
}
MODE_WORDS = {"group": "a group of workers", "one": "one worker"}


def render_check(report: CheckReport, console: Console) -> None:
    """Print the whole report."""
    for verdict in report.verdicts:
        _verdict(verdict, asked=verdict.mode == report.asked, console=console)
    if report.plan.worker_graph is not None:
        _plan(report.plan.worker_graph, console)
    if report.memory is not None:
        need = report.memory
        gpu = f" and {in_words(need.gpu_bytes)} of GPU memory" if need.gpu_bytes else ""
        console.print(
            f"memory: a state of {in_words(need.state_bytes)}; each worker needs at least {in_words(need.host_bytes)}{gpu}"
        )
    if report.sharing is not None:
        render_sharing(report.sharing, console)
    for problem in report.problems:
        _problem(problem, console)


def _verdict(verdict: ModeVerdict, *, asked: bool, console: Console) -> None:
    mark = (
        "[green]resumes[/green]"
        if verdict.resumes
        else f"[red]doesn't resume[/red] ({', '.join(verdict.reasons)})"
    )
    asked_for = " (asked for)" if asked else ""
    console.print(f"[bold]{MODE_WORDS[verdict.mode]}[/bold]{asked_for}: {mark}")


def _plan(graph: WorkerGraph, console: Console) -> None:
    for target in graph.targets:
        ratio = f", {target.ratio} times a cycle" if target.ratio > 1 else ""
        console.print(f"runs {clean(target.op)}{ratio}, which updates {names_text(target.updates)}")
    for port in graph.inputs:
        optional = ", has a default" if port.optional else ""
        pulled = ", from the graph's own pipeline" if port.pull else ""
        console.print(
            f"  needs {clean(port.name)}: {port.dtype} {shape_text(port.shape)} ({port.origin}{optional}{pulled})"
        )
    if graph.group_refused:
        console.print(f"[yellow]on one worker only[/yellow]: {clean(graph.group_refused)}")
    elif graph.cut_rule:
        console.print(f"gradients are cut by the rule: {graph.cut_rule}{_scales(graph)}")


def _scales(graph: WorkerGraph) -> str:
    """How many gradients are of a mean over rows, of a sum, and of what else; empty where none is
    exchanged.
    """
    counted = Counter(seam.scale.kind for seam in gradient_seams(graph.targets))
    words = ", ".join(f"{count} {SCALE_WORDS[kind]}" for kind, count in counted.most_common())
    return f"; {words}" if words else ""


def _problem(problem: Problem, console: Console) -> None:
    colour = "red" if problem.severity == "error" else "yellow"
    modes = (
        ""
        if len(problem.modes) == len(MODE_WORDS)
        else f" [dim](for {MODE_WORDS[problem.modes[0]]})[/dim]"
    )
    console.print(
        f"\n[{colour} bold]{problem.severity}[/{colour} bold] [bold]{problem.code}[/bold]{modes}: {clean(problem.message)}"
    )
    if problem.nodes:
        console.print(f"  nodes: {names_text(problem.nodes, NAMES)}")
    if problem.remedy:
        console.print(f"  do: {clean(problem.remedy)}")
    if problem.forceable and problem.severity == "error":
        console.print("  --force goes on all the same")
