"""How does one rank write its part of a checkpoint?

Rule: one data file of V2 format, ``PREFIX.data-0000r-of-0000N``, which grows tensor by tensor and
piece by piece; memory is needed for a piece only. What it holds is reported in plain data, of which
``index_writer`` makes the one index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self

import google_crc32c

from orchestrator.errors import OutputError
from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.packed_strings import packed_strings
from orchestrator.store.bundle.partitions import SLICEABLE, extent_shape, whole_extents
from orchestrator.store.bundle.protos import ITEM_BYTES
from orchestrator.store.bundle.slice_keys import Extents
from orchestrator.store.bundle.values import Chunk
from orchestrator.store.objects.traffic import MOVED

WRITE_BYTES = 1 << 20
"""Written and added to the checksum at once, which wants a copy as bytes: a rank may give its whole
share as one piece, and has no second share of memory.
"""


@dataclass(frozen=True)
class DataReport:
    """What one data file holds. Pickles.

    Attributes:
        shard, num_shards: which file of how many.
        pieces: whole tensors, and parts, of which ``extents`` says which part of the whole it is.
        shapes: of the whole tensor, by the key of each that has a part here.
    """

    shard: int
    num_shards: int
    pieces: tuple[BundleTensor, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def data_file_name(prefix: str, shard: int, num_shards: int) -> str:
    """``NAME-11000.data-00000-of-00003``."""
    return f"{prefix}.data-{shard:05d}-of-{num_shards:05d}"


class DataWriter:
    """Writes one data file.

    Args:
        prefix: local path of the checkpoint.
        shard: number of the file, from 0.
        num_shards: files that the checkpoint will have; each must be written, be it empty.
    """

    def __init__(self, prefix: Path, shard: int = 0, num_shards: int = 1) -> None:
        self.shard, self._num_shards = shard, num_shards
        self.data_file = prefix.with_name(data_file_name(prefix.name, shard, num_shards))
        self._data = open(self.data_file, "wb")  # noqa: SIM115  closed by __exit__
        self._offset = 0
        self._pieces: list[BundleTensor] = []
        self._shapes: dict[str, tuple[int, ...]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._data.close()

    def add(self, key: str, dtype: str, shape: tuple[int, ...], chunks: Iterable[Chunk]) -> None:
        """A tensor of numbers, from its bytes in C order."""
        self._numbers(key, dtype, shape, (), chunks)

    def add_part(
        self,
        key: str,
        dtype: str,
        shape: tuple[int, ...],
        extents: Extents,
        chunks: Iterable[Chunk],
    ) -> None:
        """A part of a tensor of numbers, from its bytes in C order; one without elements needs no
        place.

        Args:
            shape: of the whole tensor.
            extents: (start, length) in each dimension; the whole tensor where they're all of it.

        Raises:
            OutputError: TensorFlow reads no parts of this type.
        """
        if extent_shape(extents) == shape:
            self._numbers(key, dtype, shape, (), chunks)
            return
        if dtype not in SLICEABLE:
            raise OutputError(
                f"{key!r} is {dtype}, of which TensorFlow restores no parts",
                remedy="Let one worker hold it whole (--shard-tables without it)",
            )
        if prod(extent_shape(extents)):
            self._shapes[key] = shape
            self._numbers(key, dtype, extent_shape(extents), extents, chunks)

    def add_strings(self, key: str, shape: tuple[int, ...], strings: Iterable[bytes]) -> None:
        """A string tensor, from its elements in C order: lengths, their checksum, the text."""
        start = self._offset
        pieces, crc = packed_strings(strings)
        for piece in pieces:
            self._write(piece)
        self._enter(key, "string", shape, (), start, crc)

    def copy(self, piece: BundleTensor, shape: tuple[int, ...], content: Iterable[bytes]) -> None:
        """A tensor, or a part of one, from its bytes in another data file, which were compared with
        its checksum.

        Args:
            shape: of the whole tensor.
        """
        start = self._offset
        for data in content:
            self._write(data)
        extents = whole_extents(piece.extents, shape) if piece.extents else ()
        if extents:
            self._shapes[piece.key] = shape
        self._enter(piece.key, piece.dtype, piece.shape, extents, start, piece.crc32c or 0)

    def close(self) -> DataReport:
        """The file is whole; what it holds."""
        self._data.close()
        return DataReport(self.shard, self._num_shards, tuple(self._pieces), dict(self._shapes))

    def _numbers(
        self,
        key: str,
        dtype: str,
        shape: tuple[int, ...],
        extents: Extents,
        chunks: Iterable[Chunk],
    ) -> None:
        crc, start = 0, self._offset
        for chunk in chunks:
            view = memoryview(chunk).cast("B") if len(chunk) else memoryview(b"")
            for at in range(0, len(view), WRITE_BYTES):
                data = bytes(view[at : at + WRITE_BYTES])
                crc = google_crc32c.extend(crc, data)
                self._write(data)
        given = self._offset - start
        if dtype in ITEM_BYTES and given != prod(shape) * ITEM_BYTES[dtype]:
            due = prod(shape) * ITEM_BYTES[dtype]
            raise OutputError(
                f"{key!r} {list(shape)} takes {due} bytes and was given {given}",
                remedy="Nothing was saved; the next save tries again",
            )
        self._enter(key, dtype, shape, extents, start, crc)

    def _write(self, data: bytes) -> None:
        self._data.write(data)
        self._offset += len(data)
        MOVED.add(len(data))

    def _enter(
        self,
        key: str,
        dtype: str,
        shape: tuple[int, ...],
        extents: Extents,
        start: int,
        crc: int,
    ) -> None:
        size = self._offset - start
        piece = BundleTensor(key, dtype, shape, self.shard, start, size, crc, extents=extents)
        self._pieces.append(piece)
