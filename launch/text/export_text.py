"""How does the outcome of ``tfresume export`` look to people?

Rule: what was checked first, then what is held otherwise than in the source and what isn't there.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from launch.text.inspect_text import clean
from orchestrator.exports.export import ExportResult
from orchestrator.graph.variables.memory import in_words

SHOWN = 5


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
    for said, names in _left_out(found).items():
        console.print(f"  left out, since {said}: {_few(names)}")
    for note in found.notes:
        console.print(f"  {clean(note)}")


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


def _left_out(found: ExportResult) -> Mapping[str, list[str]]:
    told: dict[str, list[str]] = {}
    for one in found.left_out:
        told.setdefault(one.why, []).append(one.key)
    return told


def _few(names: list[str]) -> str:
    shown = ", ".join(clean(name) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")
