"""What are some rows of a checkpoint's tensor?

Rule: only those rows' bytes are read, by range, some requests side by side, into the memory that
they are for; whether the tensor lies whole in one file or in slices of any number of ranks, by rows
or by columns. What was read whole is checked at once; of a piece that was read in part its checksum
is told, for ``joint_crc`` to check with those of the other readers. V1 files have no ranges: their
tensor is read whole, one part at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod

import google_crc32c
import numpy as np

from orchestrator.errors import CorruptCheckpoint, GraphMismatch
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.joint_crc import PartRead, combined
from orchestrator.store.bundle.partitions import extent_shape, partition_problem, whole_extents
from orchestrator.store.bundle.protos import ITEM_BYTES
from orchestrator.store.bundle.slice_keys import Extents
from orchestrator.store.bundle.values import Values
from orchestrator.store.objects.location import FileInfo
from orchestrator.store.objects.traffic import MOVED

REQUEST_BYTES = 4 << 20
"""Of one request: beside it a store's answering time (some tens of milliseconds) is small, and
``READERS`` of them, which clients hold twice, stay below 48 MiB.
"""
READERS = 4
"""Requests at a time."""
_REMEDY = "Use another checkpoint, or `tfresume salvage` for what can still be read of this one"


@dataclass(frozen=True)
class _Request:
    """Bytes ``start`` to ``end`` of a piece, which are its rows from ``row`` on."""

    piece: BundleTensor
    extents: Extents
    start: int
    end: int
    row: int
    rows: int


class RowReader:
    """Reads rows of the tensors of one checkpoint.

    Args:
        index, files: as ``Values`` takes them.
    """

    def __init__(self, index: BundleIndex, files: Sequence[FileInfo | None]) -> None:
        self._index, self._files = index, files
        self._slices: dict[str, list[BundleTensor]] = {}
        for part in index.slice_data:
            self._slices.setdefault(part.key, []).append(part)

    def read(self, key: str, start: int, stop: int, into: memoryview) -> list[PartRead]:
        """Rows ``start`` up to ``stop`` of a tensor of numbers.

        Args:
            into: writable bytes, just as many as those rows take in C order.

        Returns:
            What was read of pieces of which these rows are only a part, unchecked.

        Raises:
            CorruptCheckpoint: a piece isn't what was saved, or some are missing.
            GraphMismatch: the tensor has no such rows.
            SourceError, StorageUnavailable: it can't be read.
        """
        tensor = self._index.entries.get(key)
        width = None if tensor is None else ITEM_BYTES.get(tensor.dtype)
        if tensor is None or not tensor.shape or not width:
            raise GraphMismatch(
                f"the checkpoint holds no rows of {key!r}",
                remedy="Resume from a checkpoint that this graph wrote",
            )
        if not 0 <= start <= stop <= tensor.shape[0]:
            raise GraphMismatch(
                f"rows {start} to {stop} of {key!r} are wanted, which has {tensor.shape[0]}",
                remedy="Resume from a checkpoint that this graph wrote, or give --grow for more rows",
            )
        if not len(into):
            return []  # no rows, or rows without elements
        out = np.frombuffer(into, np.uint8).reshape(stop - start, *tensor.shape[1:], width)
        if self._index.format == "V1":
            self._read_records(tensor, start, out)
            return []
        with ThreadPoolExecutor(READERS, "tfresume-rows") as pool:
            requests = [
                request
                for piece, extents in self._pieces(tensor)
                for request in _requests(piece, extents, start, stop, width)
            ]
            crcs = pool.map(lambda one: self._fetch(one, start, out), requests)
            return checked(map(self._told, requests, crcs))

    def _pieces(self, tensor: BundleTensor) -> list[tuple[BundleTensor, Extents]]:
        if not tensor.slices:
            return [(tensor, whole_extents((), tensor.shape))]
        found = [
            (part, whole_extents(part.extents, tensor.shape))
            for part in self._slices.get(tensor.key, ())
        ]
        problem = partition_problem([extents for _, extents in found], tensor.shape)
        if problem:
            raise CorruptCheckpoint(f"tensor {tensor.key!r}: {problem}", remedy=_REMEDY)
        return sorted(found, key=lambda pair: pair[1])

    def _file(self, piece: BundleTensor) -> FileInfo:
        file = self._files[1 + piece.shard]
        if file is None:
            raise CorruptCheckpoint(
                f"tensor {piece.key!r} lies in data file {piece.shard}, which is missing",
                remedy=_REMEDY,
            )
        return file

    def _fetch(self, request: _Request, first: int, out: np.ndarray) -> int:
        file = self._file(request.piece)
        begin = request.piece.offset
        data = file.location.read_bytes(begin + request.start, begin + request.end)
        MOVED.add(len(data))
        if len(data) != request.end - request.start:
            raise _damaged(file.location.shown, request.piece, "is cut off")
        at = request.row - first
        rows = out[at : at + request.rows]
        rows[(slice(None), *_places(request.extents))] = np.frombuffer(data, np.uint8).reshape(
            request.rows, *extent_shape(request.extents)[1:], out.shape[-1]
        )
        return int(google_crc32c.value(data))

    def _told(self, request: _Request, crc: int) -> PartRead:
        place = self._file(request.piece).location.shown
        return PartRead(place, request.piece, request.start, request.end, crc)

    def _read_records(self, tensor: BundleTensor, first: int, out: np.ndarray) -> None:
        placed, width = 0, out.shape[-1]
        for extents, record in Values(self._index, self._files).records(tensor):
            begin, end = extents[0][0], sum(extents[0])
            low, high = max(begin, first), min(end, first + len(out))
            if low >= high:
                continue
            shape = extent_shape(extents)
            content = record.content(prod(shape), "the checkpoint", tensor.key)
            rows = np.frombuffer(content, np.uint8).reshape(*shape, width)
            out[(slice(low - first, high - first), *_places(extents))] = rows[
                low - begin : high - begin
            ]
            placed += (high - low) * prod(shape[1:])
        if placed < out.size // width:
            raise CorruptCheckpoint(f"parts of {tensor.key!r} are missing", remedy=_REMEDY)


def _places(extents: Extents) -> tuple[slice, ...]:
    """Where a part lies in all dimensions but the first."""
    return tuple(slice(start, start + length) for start, length in extents[1:])


def _requests(
    piece: BundleTensor, extents: Extents, start: int, stop: int, width: int
) -> Iterator[_Request]:
    """What to read of a piece for rows ``start`` up to ``stop``: whole rows, some at once."""
    begin, end = extents[0][0], sum(extents[0])
    low, high = max(begin, start), min(end, stop)
    row_bytes = prod(extent_shape(extents)[1:]) * width
    if not row_bytes:
        return
    at_once = max(1, REQUEST_BYTES // row_bytes)
    for row in range(low, high, at_once):
        rows = min(at_once, high - row)
        offset = (row - begin) * row_bytes
        yield _Request(piece, extents, offset, offset + rows * row_bytes, row, rows)


def checked(told: Iterable[PartRead]) -> list[PartRead]:
    """What was read of pieces that aren't whole yet.

    Args:
        told: by ``read``, of any checkpoint's files, for rows that follow each other.

    Raises:
        CorruptCheckpoint: a piece that is whole now isn't what was saved.
    """
    reads: dict[tuple[str, BundleTensor], PartRead] = {}
    for one in told:
        before = reads.get((one.file, one.piece))
        if before is not None:
            crc = combined(before.crc32c, one.crc32c, one.end - one.start)
            one = replace(before, end=one.end, crc32c=crc)
        reads[one.file, one.piece] = one
    parts = []
    for read in reads.values():
        if read.end - read.start < read.piece.size_bytes:
            parts.append(read)
        elif read.crc32c != read.piece.crc32c:
            raise _damaged(read.file, read.piece, "fails its checksum")
    return parts


def _damaged(file: str, piece: BundleTensor, problem: str) -> CorruptCheckpoint:
    name = file.rpartition("/")[2]
    return CorruptCheckpoint(
        f"{name}: tensor {piece.key!r} {problem}",
        remedy=_REMEDY,
        details={"file": name, "tensor": piece.key},
    )
