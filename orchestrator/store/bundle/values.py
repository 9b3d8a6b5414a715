"""What are the values of a checkpoint's tensors?

Rule: a tensor is read when it's asked for, piece by piece, whatever the store and whichever of the
two formats, and its checksum is compared before the last piece is handed on. A partitioned variable
comes out as the whole tensor: as a stream where its parts follow each other in memory, else put
together in memory, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod

import numpy as np

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.partitions import whole_extents
from orchestrator.store.bundle.protos import ITEM_BYTES
from orchestrator.store.bundle.slice_keys import Extents, name_prefix, slice_of
from orchestrator.store.bundle.sstable import Table
from orchestrator.store.bundle.tensor_crc import RunningCrc, string_values, tensor_problem
from orchestrator.store.bundle.v1_values import Record, read_record
from orchestrator.store.objects.location import FileInfo
from orchestrator.store.objects.traffic import MOVED

CHUNK_BYTES = 8 << 20
"""Read at a time: large enough that a request to a store costs little beside it, small enough that
some of them fit anywhere."""
Chunk = bytes | memoryview
_REMEDY = "Use another checkpoint, or `tfresume salvage` for what can still be read of this one"


class Values:
    """The tensors of one checkpoint.

    Args:
        index: what it holds.
        files: its index first in V2 format, then its data; its shards in V1 format. None for a data
            file that isn't there.
    """

    def __init__(self, index: BundleIndex, files: Sequence[FileInfo | None]) -> None:
        self._index, self._files = index, files
        self._tables: dict[int, Table] = {}
        self._parts: dict[str, list[BundleTensor]] = {}
        for part in index.slice_data:
            self._parts.setdefault(part.key, []).append(part)

    def chunks(self, key: str) -> Iterator[Chunk]:
        """The bytes of a tensor of numbers, little-endian in C order, in pieces.

        Raises:
            CorruptCheckpoint: they aren't what was saved; some pieces may have been given by then.
            SourceError, StorageUnavailable: they can't be read.
        """
        tensor = self._index.entries[key]
        if self._index.format == "V2" and not tensor.slices:
            yield from self._piece(tensor)
            return
        parts = self._parts_of(tensor)
        if follow_each_other([extents for extents, _ in parts], tensor.shape):
            for _, content in parts:
                yield from content
        else:
            yield from _chunked(_put_together(parts, tensor))

    def strings(self, key: str) -> list[bytes]:
        """The elements of a string tensor in C order. Raises as ``chunks``."""
        tensor = self._index.entries[key]
        if self._index.format == "V1":
            records = [(extents, record.strings) for extents, record in self.records(tensor)]
            return _joined_strings(records, tensor)
        if not tensor.slices:
            return self._strings(tensor)
        parts = [(part.extents, self._strings(part)) for part in self._parts.get(key, ())]
        return _joined_strings(parts, tensor)

    def _name(self, tensor: BundleTensor) -> str:
        file = self._files[tensor.shard if self._index.format == "V1" else 1 + tensor.shard]
        return file.name if file is not None else f"data file {tensor.shard}"

    def _file(self, number: int, tensor: BundleTensor) -> FileInfo:
        file = self._files[number]
        if file is None:
            raise CorruptCheckpoint(
                f"tensor {tensor.key!r} lies in data file {tensor.shard}, which is missing",
                remedy=_REMEDY,
            )
        return file

    def _piece(self, piece: BundleTensor) -> Iterator[Chunk]:
        file, crc = self._file(1 + piece.shard, piece), RunningCrc(piece)
        end = piece.offset + piece.size_bytes
        for start in range(piece.offset, end, CHUNK_BYTES):
            stop = min(start + CHUNK_BYTES, end)
            data = file.location.read_bytes(start, stop)
            MOVED.add(len(data))
            if len(data) != stop - start:
                raise self._damaged(file, piece, "is cut off")
            crc.add(data)
            if stop == end and crc.problem():
                raise self._damaged(file, piece, crc.problem())
            yield data

    def _strings(self, piece: BundleTensor) -> list[bytes]:
        file = self._file(1 + piece.shard, piece)
        data = file.location.read_bytes(piece.offset, piece.offset + piece.size_bytes)
        problem = tensor_problem(piece, data)
        if problem:
            raise self._damaged(file, piece, problem)
        return string_values(piece, data)

    @staticmethod
    def _damaged(file: FileInfo, piece: BundleTensor, problem: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(
            f"{file.name}: tensor {piece.key!r} {problem}",
            remedy=_REMEDY,
            details={"file": file.name, "tensor": piece.key},
        )

    def _parts_of(self, tensor: BundleTensor) -> list[tuple[Extents, Iterator[Chunk]]]:
        if self._index.format == "V2":
            parts = [
                (self._extents(part, tensor), self._piece(part))
                for part in self._parts.get(tensor.key, ())
            ]
        else:
            name = self._name(tensor)
            parts = [
                (extents, _content(record, extents, name, tensor.key))
                for extents, record in self.records(tensor)
            ]
        if covered([extents for extents, _ in parts]) < tensor.elements:
            raise CorruptCheckpoint(
                f"{self._name(tensor)}: parts of {tensor.key!r} are missing", remedy=_REMEDY
            )
        return sorted(parts, key=lambda part: part[0])

    def _extents(self, part: BundleTensor, tensor: BundleTensor) -> Extents:
        extents = whole_extents(part.extents, tensor.shape)
        if covered([extents]) * ITEM_BYTES.get(tensor.dtype, 0) != part.size_bytes:
            raise CorruptCheckpoint(
                f"{self._name(tensor)}: a part of {tensor.key!r} has the wrong size", remedy=_REMEDY
            )
        return extents

    def records(self, tensor: BundleTensor) -> Iterator[tuple[Extents, Record]]:
        """Every part of a V1 tensor, whichever shard holds it."""
        prefix, seen = name_prefix(tensor.key), set[Extents]()
        for number in range(len(self._files)):
            file = self._file(number, tensor)
            if number not in self._tables:
                self._tables[number] = Table(file.location.read_bytes, file.size_bytes, file.name)
            for key, value in self._tables[number].items_with(prefix):
                extents = whole_extents(slice_of(key, file.name)[1], tensor.shape)
                if extents in seen:
                    continue
                seen.add(extents)
                yield extents, read_record(value, tensor.dtype, file.name)


def follow_each_other(parts: Sequence[Extents], shape: tuple[int, ...]) -> bool:
    """Whether sorted parts are whole but in their first dimension, and touch: then their bytes, one
    after the other, are the tensor's.
    """
    if any(
        extent != (0, size)
        for extents in parts
        for extent, size in zip(extents[1:], shape[1:], strict=True)
    ):
        return False
    return all(sum(one[0]) == other[0][0] for one, other in pairwise(parts) if one)


def covered(parts: Sequence[Extents]) -> int:
    """How many elements parts that don't overlap hold."""
    return sum(prod(length for _, length in extents) for extents in parts)


def _content(record: Record, extents: Extents, name: str, key: str) -> Iterator[Chunk]:
    yield from _chunked(
        memoryview(record.content(prod(length for _, length in extents), name, key))
    )


def _chunked(content: memoryview) -> Iterator[Chunk]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def _put_together(
    parts: Sequence[tuple[Extents, Iterator[Chunk]]], tensor: BundleTensor
) -> memoryview:
    width = ITEM_BYTES[tensor.dtype]
    whole = np.empty((*tensor.shape, width), np.uint8)
    for extents, content in parts:
        shape = tuple(length for _, length in extents)
        data = np.frombuffer(b"".join(content), np.uint8)
        place = tuple(slice(start, start + length) for start, length in extents)
        whole[place] = data.reshape(*shape, width)
    return whole.reshape(-1).data


def _joined_strings(
    parts: Sequence[tuple[Extents, list[bytes]]], tensor: BundleTensor
) -> list[bytes]:
    whole = np.empty(tensor.shape, object)
    placed = 0
    for given, strings in parts:
        extents = whole_extents(given, tensor.shape)
        shape = tuple(length for _, length in extents)
        if len(strings) != prod(shape):
            raise CorruptCheckpoint(f"a part of {tensor.key!r} lacks strings", remedy=_REMEDY)
        values = np.empty(len(strings), object)
        values[:] = strings
        whole[tuple(slice(start, start + length) for start, length in extents)] = values.reshape(
            shape
        )
        placed += len(strings)
    if placed < tensor.elements:
        raise CorruptCheckpoint(f"parts of {tensor.key!r} are missing", remedy=_REMEDY)
    return list(whole.reshape(-1))
