"""Which index makes one checkpoint of what several ranks have written?

Rule: as TensorFlow's ``MergeBundles``: every whole tensor under its key; every part under
the key of its slice, and under the tensor's own key one entry that lists the parts. What the ranks
report has to be one checkpoint: every data file, no tensor twice, parts that make the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator.errors import OutputError
from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.data_writer import DataReport
from orchestrator.store.bundle.partitions import partition_problem
from orchestrator.store.bundle.protos import DTYPE_NUMBERS, serialized
from orchestrator.store.bundle.slice_keys import slice_key
from orchestrator.store.bundle.sstable import mask
from orchestrator.store.bundle.table_writer import table_bytes


def index_bytes(reports: Sequence[DataReport]) -> bytes:
    """The ``.index`` over the data files of all ranks, in any order.

    Raises:
        OutputError: they aren't the files of one checkpoint; says which tensor or file is amiss.
    """
    ordered = sorted(reports, key=lambda report: report.shard)
    numbers = [report.shard for report in ordered]
    if not ordered or numbers != list(range(ordered[0].num_shards)):
        raise _amiss(f"data files {numbers} are there")
    if any(report.num_shards != len(ordered) for report in ordered):
        raise _amiss("ranks were told different numbers of data files")
    wholes, parts = _sorted_out(ordered)
    entries = {_key(key): entry_bytes(piece) for key, piece in wholes.items()}
    for key, found in parts.items():
        entries[_key(key)] = _listing(key, found, ordered)
        entries |= {slice_key(key, piece.extents): entry_bytes(piece) for piece in found}
    header = serialized("BundleHeader", num_shards=len(ordered), version={"producer": 1})
    return table_bytes([(b"", header), *sorted(entries.items())])


def write_index(prefix: Path, reports: Sequence[DataReport]) -> Path:
    """Write ``PREFIX.index``; raises as ``index_bytes``."""
    path = prefix.with_name(f"{prefix.name}.index")
    path.write_bytes(index_bytes(reports))
    return path


def entry_bytes(piece: BundleTensor) -> bytes:
    """The record of a tensor, or of a part of one, that lies in a data file."""
    return serialized(
        "BundleEntry",
        dtype=DTYPE_NUMBERS[piece.dtype],
        shape={"dim": [{"size": size} for size in piece.shape]},
        shard_id=piece.shard,
        offset=piece.offset,
        size=piece.size_bytes,
        crc32c=mask(piece.crc32c or 0),
    )


def _sorted_out(
    reports: Iterable[DataReport],
) -> tuple[dict[str, BundleTensor], dict[str, list[BundleTensor]]]:
    wholes: dict[str, BundleTensor] = {}
    parts: dict[str, list[BundleTensor]] = {}
    for report in reports:
        for piece in report.pieces:
            if piece.extents:
                parts.setdefault(piece.key, []).append(piece)
            # Of a tensor without rows every rank holds all
            elif wholes.setdefault(piece.key, piece) is not piece and piece.size_bytes:
                raise _amiss(f"{piece.key!r} was written by two ranks")
    if both := sorted(set(wholes) & set(parts)):
        raise _amiss(f"{both[0]!r} was written whole by one rank and in parts by others")
    return wholes, parts


def _listing(key: str, parts: list[BundleTensor], reports: Iterable[DataReport]) -> bytes:
    shapes = {report.shapes[key] for report in reports if key in report.shapes}
    dtypes = {piece.dtype for piece in parts}
    if len(shapes) > 1 or len(dtypes) > 1:
        raise _amiss(f"ranks hold {key!r} as {sorted(dtypes)} of {sorted(shapes)}")
    (shape,), (dtype,) = shapes, dtypes
    slices = sorted(piece.extents for piece in parts)
    if problem := partition_problem(slices, shape):
        raise _amiss(f"{key!r}: {problem}")
    return serialized(
        "BundleEntry",
        dtype=DTYPE_NUMBERS[dtype],
        shape={"dim": [{"size": size} for size in shape]},
        slices=[
            {"extent": [{"start": start, "length": length} for start, length in extents]}
            for extents in slices
        ],
    )


def _key(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _amiss(what: str) -> OutputError:
    return OutputError(
        f"what the ranks wrote isn't one checkpoint: {what}",
        remedy="It isn't committed; the next save tries again",
    )
