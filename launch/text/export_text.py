"""How does the outcome of ``tfresume export`` and ``salvage`` look to people?

Rule: what was checked first, then what is held otherwise than in the source and what isn't there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Console

from launch.text.inspect_text import clean
from orchestrator.exports.export import ExportResult, LeftOut
from orchestrator.exports.frozen import GraphExportResult
from orchestrator.exports.salvage import SalvageResult
from orchestrator.graph.variables.memory import in_words

SHOWN = 5
"""Names of a kind that are printed; ``--json`` has all of them."""


def render_export(found: ExportResult, console: Console) -> None:
    """Print the outcome."""
    step = "" if found.step is None else f" (step {found.step})"
    console.print(f"{clean(found.checkpoint)}{step} as {found.to}: {clean(found.url)}")
    console.print(f"  {', '.join(found.files)}; names in export.json")
    console.print(f"  {len(found.tensors)} tensors")
    if found.already:
        console.print("  it was there already, complete; nothing was written")
    else:
        size = in_words(found.compared_bytes)
        console.print(f"  read back and compared byte for byte: {size}, all equal")
    for said, names in _otherwise(found).items():
        console.print(f"  {said}: {_few(names)}")
    for said, names in _by_reason(found.left_out).items():
        console.print(f"  left out, since {said}: {_few(names)}")
    for note in found.notes:
        console.print(f"  {clean(note)}")


def render_graph(found: GraphExportResult, console: Console) -> None:
    """Print what a graph takes and gives, and how it was checked."""
    step = "" if found.step is None else f" (step {found.step})"
    console.print(f"{clean(found.checkpoint)}{step} as {found.to}: {clean(found.url)}")
    console.print(f"  {', '.join(found.files)}; {found.nodes} nodes, {found.variables} variables")
    for said, endpoints in (("takes", found.inputs), ("gives", found.outputs)):
        names = ", ".join(f"{one.tensor} ({one.dtype})" for one in endpoints)
        console.print(f"  {said} {clean(names) or 'nothing'}")
    if found.why_output:
        console.print(f"  that output, since {clean(found.why_output)}")
    for text in (*found.switched, *found.left):
        console.print(f"  {clean(text)}")
    if found.made_by:
        console.print(f"  converted by {clean(found.made_by)}")
    if found.already:
        console.print("  it was there already, complete; nothing was written")
        return
    kind = "made-up batches" if found.made else "batches"
    console.print(
        f"  checked on {found.compared} {kind}: {found.difference:.1g} from the trained graph at most"
    )


def render_salvage(found: SalvageResult, console: Console) -> None:
    """Print what was saved, what is lost, and how to go on."""
    all_of_them = len(found.saved) + len(found.lost)
    console.print(f"{clean(found.checkpoint)}: {len(found.saved)} of {all_of_them} tensors saved")
    console.print(f"  {clean(found.url)}{', there already' if found.already else ''}")
    for problem in found.problems:
        console.print(f"  {clean(problem)}")
    for said, names in _by_reason(found.lost).items():
        console.print(f"  lost, since {clean(said)}: {_few(names)}")
    for one in found.poisoned:
        role = f" ({one.role})" if one.role else ""
        what = "is kept; --drop-poisoned leaves it out" if one.kept else "is left out"
        console.print(f"  [yellow]{clean(one.key)}[/yellow]{role}: {one.why}; it {what}")
    if found.command:
        console.print("Go on with this and your run's input flags:")
        console.print(f"  {clean(found.command)}", soft_wrap=True)
    else:
        console.print("Its .meta is missing or damaged too; put one beside it to go on.")


def _otherwise(found: ExportResult) -> Mapping[str, list[str]]:
    told: dict[str, list[str]] = {}
    for item in found.tensors:
        if item.stored_as != item.dtype:
            told.setdefault(f"{item.dtype} held as {item.stored_as}", []).append(item.name)
        if item.name != item.key:
            told.setdefault("renamed, see export.json", []).append(item.name)
        if item.role == "unknown":
            told.setdefault("not of the graph, kept all the same", []).append(item.name)
    return told


def _by_reason(left_out: Iterable[LeftOut]) -> Mapping[str, list[str]]:
    told: dict[str, list[str]] = {}
    for one in left_out:
        told.setdefault(one.why, []).append(one.key)
    return told


def _few(names: list[str]) -> str:
    shown = ", ".join(clean(name) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")
