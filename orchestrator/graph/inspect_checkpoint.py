"""Does the checkpoint beside a ``.meta`` fit what is shown of its graph?

Rule: variable by variable, by key, type and shape, as a restore would look for them. Nothing is
refused here: what is missing, or is another than the graph's, is told.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.graph.inspect_report import (
    CheckpointComparison,
    VariableEntry,
)
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.graph.variables.saver import SaverKeys
from orchestrator.graph.worker_graph import Variable


def state_in(variable: Variable, checkpoint: CheckpointKeys | None) -> str:
    """``yes``, ``no``, ``other type`` or ``other shape``; empty where there is no checkpoint."""
    if checkpoint is None:
        return ""
    if variable.key is None or variable.key not in checkpoint:
        return "no"
    saved = checkpoint[variable.key]
    if saved.dtype != variable.dtype:
        return "other type"
    expected = variable.saved_shape if variable.slice_spec else variable.shape
    if expected is None or saved.shape is None:
        return "yes"
    same = len(expected) == len(saved.shape) and all(
        size is None or size == there for size, there in zip(expected, saved.shape, strict=True)
    )
    return "yes" if same else "other shape"


def compared(
    checkpoint: CheckpointKeys,
    variables: Iterable[Variable],
    entries: Iterable[VariableEntry],
    saver: SaverKeys,
) -> CheckpointComparison:
    """What of the graph's state the checkpoint lacks, holds besides, or holds in another form."""
    every = list(entries)
    missing = [entry for entry in every if entry.in_checkpoint == "no" and not entry.local]
    used = {variable.key for variable in variables} | {entry.key for entry in saver.entries}
    return CheckpointComparison(
        tensors=len(checkpoint),
        missing=tuple(
            entry.name for entry in sorted(missing, key=lambda entry: entry.slot_of is None)
        ),
        unused=tuple(key for key in checkpoint if key not in used),
        different=tuple(
            _difference(entry, checkpoint)
            for entry in every
            if entry.in_checkpoint.startswith("other")
        ),
    )


def _difference(entry: VariableEntry, checkpoint: CheckpointKeys) -> str:
    saved = checkpoint[str(entry.key)]
    return f"{entry.name}: {entry.dtype} {_words(entry.shape)} in the graph, {saved.dtype} {_words(saved.shape)} in the checkpoint"


def _words(shape: Iterable[int | None] | None) -> str:
    return (
        "of unknown rank"
        if shape is None
        else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
    )
