"""What can still be had of a damaged checkpoint?

Rule: a tensor is taken if its own checksum says that its bytes are the ones that were saved, and
left behind with the reason otherwise; what an index says without a checksum over it counts only
where the graph expects just that. The result is a checkpoint of TensorFlow's, complete or not there
as every export, and what is lost starts anew with ``--init-missing``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import google_crc32c
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.errors import CorruptCheckpoint, GraphRefused, SourceError
from orchestrator.exports import export_directory
from orchestrator.exports.export import LeftOut
from orchestrator.exports.poison import poison_in
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inference.kept_keys import expected_keys, key_roles
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys, CheckpointTensor
from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.protos import ITEM_BYTES
from orchestrator.store.bundle.tensor_writer import TensorWriter
from orchestrator.store.bundle.values import Values
from orchestrator.store.checkpoints.candidates import Candidate
from orchestrator.store.checkpoints.pointer import pointer_text
from orchestrator.store.checkpoints.wreck import Wreck, find_wreck, read_wreck
from orchestrator.store.objects.layout import POINTER
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.private import scratch

FORMAT = "salvage"


@dataclass(frozen=True)
class Poisoned:
    """A tensor whose numbers look as if training had gone wrong.

    Attributes:
        role: what it is to the model, as ``export`` says it; empty where the graph doesn't tell.
        why: how many numbers, of which kind.
        kept: whether it's in the result all the same.
    """

    key: str
    role: str
    why: str
    kept: bool


@dataclass(frozen=True)
class SalvageResult:
    """What was saved, and what wasn't.

    Attributes:
        url: the directory with the new checkpoint.
        checkpoint: the damaged one.
        saved: keys of the tensors that are in the new checkpoint.
        lost: those that aren't, and why.
        poisoned: tensors to look at.
        problems: what is wrong with the damaged one as a whole.
        has_graph: whether its ``.meta`` could be read and lies beside the new checkpoint.
        command: how to go on; empty without a graph.
        already: it had been done before.
    """

    url: str
    checkpoint: str
    saved: tuple[str, ...]
    lost: tuple[LeftOut, ...]
    poisoned: tuple[Poisoned, ...]
    problems: tuple[str, ...]
    has_graph: bool
    command: str
    already: bool = False
    status: str = "done"

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return asdict(self)


def salvage(source: str, output: str, *, drop_poisoned: bool = False) -> SalvageResult:
    """Write what can still be read of a damaged checkpoint; no TensorFlow is imported.

    Args:
        source: a checkpoint's prefix, one of its files, or a directory; any fsspec URL.
        output: a directory of the result's own; any fsspec URL.
        drop_poisoned: leave out tensors with NaN, infinity or numbers beyond 1e30.

    Raises:
        SourceError: nothing of it can be read.
        OutputError: the directory holds something else.
        StorageUnavailable: a store doesn't answer.
    """
    candidate, target = find_wreck(source), open_location(output)
    identity = _identity(candidate, drop_poisoned)
    done = export_directory.existing(target, identity)
    if done is not None:
        return _result(target, done, already=True)
    graph = _graph(candidate)
    expected = {} if graph is None else expected_keys(graph[0], candidate.prefix)
    wreck = read_wreck(candidate, expected)
    values = Values(wreck.index, wreck.files)
    saved, lost, poisoned = _sorted(wreck, values, expected, graph, drop_poisoned)
    if not saved:
        raise SourceError(
            f"nothing of {candidate.location.shown} can be read: {_first(wreck, lost)}",
            remedy="Look for another copy, or for an older checkpoint",
            details={"lost": [asdict(one) for one in lost]},
        )
    with scratch("salvage") as room:
        files = _written(room, candidate, wreck, values, saved, graph)
        export_directory.begin(target, identity, [file.name for file in files])
        records = export_directory.put(target, files)
    record = {
        "source": candidate.location.shown,
        "files": [file.model_dump() for file in records],
        "saved": saved,
        "lost": [asdict(one) for one in lost],
        "poisoned": [asdict(one) for one in poisoned],
        "problems": list(wreck.problems),
        "has_graph": graph is not None,
        "command": _command(target, lost) if graph is not None else "",
    }
    return _result(target, export_directory.complete(target, identity, record), already=False)


def _identity(candidate: Candidate, drop_poisoned: bool) -> dict[str, Any]:
    index = candidate.files.get(".index")
    sizes = {suffix: file.size_bytes for suffix, file in sorted(candidate.files.items())}
    return {
        "to": FORMAT,
        "checkpoint": candidate.prefix,
        "sizes": sizes,
        "index": google_crc32c.value(index.location.read_bytes()) if index else 0,
        "drop_poisoned": drop_poisoned,
    }


def _graph(candidate: Candidate) -> tuple[MetaGraphDef, bytes] | None:
    """Its graph and the file's bytes; None where there is none that can be read."""
    if candidate.meta is None:
        return None
    data = candidate.meta.location.read_bytes()
    try:
        return read_meta(data, name=candidate.meta.name), data
    except SourceError:
        return None


def _sorted(
    wreck: Wreck,
    values: Values,
    expected: CheckpointKeys,
    graph: tuple[MetaGraphDef, bytes] | None,
    drop_poisoned: bool,
) -> tuple[list[str], list[LeftOut], list[Poisoned]]:
    saved: list[str] = []
    lost: list[LeftOut] = []
    poisoned: list[Poisoned] = []
    roles = _roles(graph, wreck)
    for key, tensor in sorted(wreck.index.entries.items()):
        why, poison = _examined(tensor, values, expected)
        if why:
            lost.append(LeftOut(key, why))
            continue
        if poison:
            poisoned.append(Poisoned(key, roles.get(key, ""), poison, not drop_poisoned))
        if poison and drop_poisoned:
            lost.append(LeftOut(key, f"{poison}, and --drop-poisoned says so"))
        else:
            saved.append(key)
    # Of an index that is whole, what the graph expects besides was never saved
    unseen = set(expected) - set(wreck.index.entries) if wreck.problems else set()
    gone = sorted(unseen | wreck.lost)
    lost += [LeftOut(key, "the index no longer tells for certain where it lies") for key in gone]
    return saved, lost, poisoned


def _examined(tensor: BundleTensor, values: Values, expected: CheckpointKeys) -> tuple[str, str]:
    """Why a tensor is lost, or what is wrong with its numbers; both empty for a good one."""
    if not _fits(tensor, expected.get(tensor.key)):
        return "it isn't of the type and shape that the graph expects", ""
    if tensor.dtype != "string" and tensor.dtype not in ITEM_BYTES:
        return f"{tensor.dtype} has no plain values", ""
    try:
        if tensor.dtype == "string":
            values.strings(tensor.key)
            return "", ""
        return "", poison_in(tensor.dtype, values.chunks(tensor.key))
    except CorruptCheckpoint as error:
        return error.message, ""


def _fits(tensor: BundleTensor, known: CheckpointTensor | None) -> bool:
    """Whether the graph, if it knows the key, expects such a tensor."""
    if known is None or known.shape is None:
        return True
    return (
        known.dtype == tensor.dtype
        and len(known.shape) == len(tensor.shape)
        and all(
            size in (None, there) for size, there in zip(known.shape, tensor.shape, strict=True)
        )
    )


def _roles(graph: tuple[MetaGraphDef, bytes] | None, wreck: Wreck) -> Mapping[str, str]:
    if graph is None:
        return {}
    try:
        roles = key_roles(graph[0], wreck.index.keys_for_graph(), wreck.candidate.prefix)
    except GraphRefused:
        return {}
    return {key: role.role for key, role in roles.items()}


def _written(
    room: Path,
    candidate: Candidate,
    wreck: Wreck,
    values: Values,
    saved: list[str],
    graph: tuple[MetaGraphDef, bytes] | None,
) -> list[Path]:
    with TensorWriter(room / candidate.prefix) as writer:
        for key in saved:
            tensor = wreck.index.entries[key]
            if tensor.dtype == "string":
                writer.add_strings(key, tensor.shape, values.strings(key))
            else:
                writer.add(key, tensor.dtype, tensor.shape, values.chunks(key))
        writer.finish()
    pointer = room / POINTER
    pointer.write_bytes(pointer_text(candidate.prefix, [candidate.prefix]))
    files = [writer.data_file, writer.index_file, pointer]
    if graph is not None:
        meta = room / f"{candidate.prefix}.meta"
        meta.write_bytes(graph[1])
        files.append(meta)
    return files


def _first(wreck: Wreck, lost: list[LeftOut]) -> str:
    said = [*wreck.problems, *(one.why for one in lost)]
    return said[0] if said else "its index names no tensor"


def _command(target: Location, lost: list[LeftOut]) -> str:
    words = ["tfresume", "resume", target.shown, "--output", f"{target.shown}-resumed"]
    if lost:
        words.append("--init-missing")
    return shlex.join([*words, "--steps", "1000"])


def _result(target: Location, record: Mapping[str, Any], *, already: bool) -> SalvageResult:
    return SalvageResult(
        url=target.shown,
        checkpoint=record["source"],
        saved=tuple(record["saved"]),
        lost=tuple(LeftOut(**one) for one in record["lost"]),
        poisoned=tuple(Poisoned(**one) for one in record["poisoned"]),
        problems=tuple(record["problems"]),
        has_graph=record["has_graph"],
        command=record["command"],
        already=already,
    )
