"""How does ``tfresume verify`` look to people?

Rule: the verdict first, then each comparison with its number, then what makes the rest differ.
"""

from __future__ import annotations

from rich.console import Console

from launch.text.inspect_text import clean
from orchestrator.driver.proof import Proof
from orchestrator.driver.verify_report import Comparison, VerifyReport

WORST = 5
"""Variables named; ``--json`` has them all."""
SAID = {
    "agrees": "[green]resuming is faithful[/green]",
    "explained": "[yellow]resuming differs for reasons that are known[/yellow]",
    "differs": "[red]resuming differs[/red]",
}


def render_verify(report: VerifyReport, console: Console) -> None:
    """Print the whole report."""
    workers = f"{report.workers} worker{'s' if report.workers > 1 else ''}"
    console.print(f"[bold]{clean(report.source)}[/bold]: {SAID[report.verdict]}")
    console.print(
        f"{report.steps} steps from step {report.start_step} on {workers}; they changed {report.moved} variables"
    )
    for comparison in report.comparisons:
        _comparison(comparison, console)
    if report.proof is not None:
        render_proof(report.proof, console)
    for cause in report.causes:
        console.print(f"[yellow]differs by[/yellow] {clean(cause)}")


def render_proof(proof: Proof, console: Console) -> None:
    """Print what a group's first step was found to compute, and the ways on where it differs."""
    colour = {"equal": "green", "differs": "red"}.get(proof.verdict, "yellow")
    console.print(f"[{colour}]first step of a group[/{colour}]: {clean(proof.told)}")
    for remedy in proof.remedies:
        console.print(f"  do: {clean(remedy)}")


def _comparison(item: Comparison, console: Console) -> None:
    if item.agrees is None:
        console.print(f"{item.what}: not compared, {clean(item.reason)}")
        return
    mark = "[green]agree[/green]" if item.agrees else "[red]differ[/red]"
    limit = f"tolerance {item.tolerance:.0e}" if item.tolerance else "not a bit is allowed"
    console.print(
        f"{item.what}: {mark}; {item.compared} variables, at most {item.relative:.1e} of their movement apart ({limit})"
    )
    if item.rounded:
        console.print(
            f"  moved by rounding alone, as another order of the rows shows: {clean(', '.join(item.rounded[:WORST]))}"
        )
    for name, relative in item.worst[:WORST]:
        console.print(f"  {clean(name)}: {relative:.1e}")
    if len(item.worst) > WORST:
        console.print(f"  and {len(item.worst) - WORST} more")
    if item.beyond:
        console.print(
            f"  [red]further apart than any known reason accounts for[/red]: {clean(', '.join(item.beyond[:WORST]))}"
        )
