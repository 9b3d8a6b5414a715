"""How does a trained model get out of its checkpoint, without TensorFlow?

Rule: which tensors belong to the model is the graph's to say; they're streamed from the source into
local files, those put into the output, read back from there and compared byte for byte, and only
then the export is declared complete. One tensor's piece at a time is in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any, Literal

from orchestrator.errors import ConfigError
from orchestrator.exports import checkpoint_files, export_directory, npz_file, safetensors_file
from orchestrator.exports.comparing import compare
from orchestrator.exports.items import Item, distinct
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inference.kept_keys import KeyRole, key_roles
from orchestrator.store.bundle.bundle import BundleIndex
from orchestrator.store.bundle.values import Values
from orchestrator.store.checkpoints.source import Source, resolve_source, source_fingerprint
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.private import scratch

log = logging.getLogger("tfresume.export")
TensorFormat = Literal["checkpoint", "safetensors", "npz"]
_ASKED = "--omit says so"


LAYOUTS: dict[TensorFormat, ModuleType] = {
    "checkpoint": checkpoint_files,
    "safetensors": safetensors_file,
    "npz": npz_file,
}


@dataclass(frozen=True)
class LeftOut:
    """A tensor of the source that isn't in the export, and why."""

    key: str
    why: str


@dataclass(frozen=True)
class ExportResult:
    """What an export did.

    Attributes:
        status: ``done``, also where it had been done before (``already``).
        url: the directory that it's in.
        to: the format.
        checkpoint: what was exported; ``step`` its global step where that's known.
        files: their names.
        tensors: how each tensor is held.
        left_out: what isn't there.
        compared_bytes: what was read back and compared with the source; 0 where it was there
            already.
        notes: what the reader should know.
    """

    url: str
    to: str
    checkpoint: str
    step: int | None
    files: tuple[str, ...]
    tensors: tuple[Item, ...]
    left_out: tuple[LeftOut, ...]
    compared_bytes: int
    already: bool = False
    notes: tuple[str, ...] = ()
    status: str = "done"

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return asdict(self)


def export(
    source: str,
    output: str,
    *,
    to: TensorFormat,
    everything: bool = False,
    omit: Sequence[str] = (),
) -> ExportResult:
    """Write a trained model's tensors in another format; no TensorFlow is imported.

    Args:
        source: a ``.meta``, a checkpoint prefix, a directory or a run's output; any fsspec URL.
        output: a directory of the export's own; any fsspec URL.
        to: ``checkpoint``, ``safetensors`` or ``npz``.
        everything: the optimizer's variables too.
        omit: patterns of checkpoint keys that are left out (``*`` and ``?``).

    Returns:
        What was written, tensor by tensor; shapes are the whole tensors'.

    Raises:
        ConfigError: the format can't hold a tensor, or nothing is left to export.
        SourceError, CorruptCheckpoint: the source is missing or damaged.
        GraphRefused: what is the optimizer's can't be told.
        OutputError: the directory holds something else.
        StorageUnavailable: a store doesn't answer.
    """
    found = resolve_source(source)
    assert found.index is not None, "a checkpoint was asked for"
    target = open_location(output)
    identity = _identity(found, to, everything, omit)
    done = export_directory.existing(target, identity)
    if done is not None:
        return _result(target, done, already=True)
    items, left_out = chosen(found, to, everything=everything, omit=omit)
    values, layout = Values(found.index, found.files), LAYOUTS[to]
    with scratch("export") as room:
        files = layout.write(room, items, values)
        export_directory.begin(target, identity, [file.name for file in files])
        records = export_directory.put(target, files)
    compared = compare(items, values, layout.reader(target), target.shown)
    record = {
        "source": found.prefix.shown if found.prefix is not None else found.url,
        "step": found.step,
        "files": [file.model_dump() for file in records],
        "tensors": [asdict(item) for item in items],
        "left_out": [asdict(one) for one in left_out],
        "notes": list(found.notes),
    }
    return _result(
        target, export_directory.complete(target, identity, record), compared_bytes=compared
    )


def chosen(
    source: Source, to: TensorFormat, *, everything: bool, omit: Sequence[str]
) -> tuple[list[Item], list[LeftOut]]:
    """What is exported, sorted by key, and what isn't. Raises ConfigError, GraphRefused."""
    assert source.index is not None, "a checkpoint was asked for"
    roles = _roles(source, everything)
    left_out: list[LeftOut] = []
    kept: list[str] = []
    for key in sorted(source.index.entries):
        role = roles[key]
        if any(fnmatchcase(key, pattern) for pattern in omit):
            left_out.append(LeftOut(key, _ASKED))
        elif not role.kept:
            left_out.append(LeftOut(key, role.why))
        else:
            kept.append(key)
    if not kept:
        raise ConfigError(
            f"nothing of {source.url} is left to export",
            remedy="--all exports the optimizer's variables too",
        )
    return _items(source.index, kept, roles, to), left_out


def _roles(source: Source, everything: bool) -> dict[str, KeyRole]:
    keys = source.keys() or {}
    if everything:
        return {
            key: KeyRole(tensor.dtype not in ("variant", "resource"), "", "it has no plain values")
            for key, tensor in keys.items()
        }
    return key_roles(read_meta(source.meta_data, name=source.meta.shown), keys, source.meta.shown)


def _items(
    index: BundleIndex, keys: Sequence[str], roles: Mapping[str, KeyRole], to: TensorFormat
) -> list[Item]:
    layout = LAYOUTS[to]
    holds: Mapping[str, str] = layout.HOLDS
    _refuse_unheld(index, keys, holds, to)
    names = distinct(keys, getattr(layout, "RESERVED", {}))
    return [
        Item(
            key,
            names[key],
            index.entries[key].dtype,
            holds[index.entries[key].dtype],
            index.entries[key].shape,
            roles[key].role,
            roles[key].variables,
        )
        for key in keys
    ]


def _refuse_unheld(
    index: BundleIndex, keys: Sequence[str], holds: Mapping[str, str], to: TensorFormat
) -> None:
    unheld = [key for key in keys if index.entries[key].dtype not in holds]
    if not unheld:
        return
    shown = ", ".join(f"{key!r} ({index.entries[key].dtype})" for key in unheld[:3])
    more = f" and {len(unheld) - 3} more" if unheld[3:] else ""
    others = [
        name
        for name, layout in LAYOUTS.items()
        if all(index.entries[key].dtype in layout.HOLDS for key in unheld)
    ]
    instead = f"--to {' or --to '.join(others)} holds all of them; " if others else ""
    without = " ".join(f"--omit '{key}'" for key in unheld[:3])
    raise ConfigError(
        f"{to} can't hold {shown}{more}",
        remedy=f"{instead}{without}{' …' if more else ''} leaves them out",
        details={"tensors": unheld},
    )


def _identity(source: Source, to: str, everything: bool, omit: Sequence[str]) -> dict[str, Any]:
    assert source.prefix is not None, "a checkpoint was asked for"
    return {
        "to": to,
        "checkpoint": source.prefix.name,
        "fingerprint": source_fingerprint(source),
        "everything": everything,
        "omit": sorted(omit),
    }


def _result(
    target: Location, record: Mapping[str, Any], *, already: bool = False, compared_bytes: int = 0
) -> ExportResult:
    tensors = [{**item, "shape": tuple(item["shape"])} for item in record["tensors"]]
    return ExportResult(
        url=target.shown,
        to=record["identity"]["to"],
        checkpoint=record["source"],
        step=record["step"],
        files=tuple(file["name"] for file in record["files"]),
        tensors=tuple(Item(**{**item, "variables": tuple(item["variables"])}) for item in tensors),
        left_out=tuple(LeftOut(**one) for one in record["left_out"]),
        compared_bytes=compared_bytes,
        already=already,
        notes=tuple(record["notes"]),
    )
