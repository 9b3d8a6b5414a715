"""How does a checkpoint go into the store from the memory in which its tensors lie?

Rule: byte for byte what TensorFlow's ``SaveV2`` writes of the same tensors
(``util/tensor_bundle/tensor_bundle.cc``), but never as a file of this machine: where each tensor
lies in its data file follows from the sizes alone, so any part of a file can be read at any time.
The index, which holds every tensor's checksum, is made once those are known; where several ranks
write one checkpoint, each reports what its file holds, and ``index_writer`` makes the index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import google_crc32c

from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.data_writer import DataReport, data_file_name
from orchestrator.store.bundle.index_writer import entry_bytes
from orchestrator.store.bundle.partitions import whole_extents
from orchestrator.store.bundle.protos import DTYPE_NUMBERS, serialized
from orchestrator.store.bundle.slice_keys import WHOLE_DIMENSION, Extents, slice_key
from orchestrator.store.bundle.table_writer import table_bytes
from orchestrator.store.objects.content import BytesByRange, MemoryContent
from orchestrator.store.objects.traffic import MOVED

CHUNK_BYTES = 1 << 20
"""Added to the two checksums at once, while it's still in the processor's cache; google_crc32c wants
a copy as bytes.
"""


@dataclass(frozen=True)
class TensorInMemory:
    """One tensor, or one slice of a partitioned one.

    Attributes:
        key: its name in the checkpoint.
        dtype: as in ``protos.DTYPES``.
        shape: of these values.
        pieces: its bytes as they lie in the data file.
        crc32c: of the bytes as TensorFlow counts them, where that isn't their plain checksum.
        whole_shape, extents: for a slice, of which tensor which part.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[BytesByRange, ...]
    crc32c: int | None = None
    whole_shape: tuple[int, ...] = ()
    extents: Extents = ()

    @property
    def size_bytes(self) -> int:
        """In its data file."""
        return sum(map(len, self.pieces))

    @property
    def is_slice(self) -> bool:
        """Whether it's less than the whole tensor."""
        return any(
            extent not in ((0, size), (0, WHOLE_DIMENSION))
            for extent, size in zip(self.extents, self.whole_shape, strict=True)
        )


class BundleInMemory:
    """One data file of a checkpoint, and the index where there's no other.

    Args:
        prefix: its name with its step, such as ``model.ckpt-11000``.
        tensors: in the order in which they're to lie in the data file; nobody may change their
            values as long as this is in use.
        shard: number of the file, from 0.
        num_shards: files that the checkpoint has.
    """

    def __init__(
        self,
        prefix: str,
        tensors: Sequence[TensorInMemory],
        shard: int = 0,
        num_shards: int = 1,
    ) -> None:
        self._prefix, self._tensors = prefix, tuple(tensors)
        self._shard, self._num_shards = shard, num_shards

    def data(self) -> MemoryContent:
        """The data file; its checksums are computed at the first call."""
        name = data_file_name(self._prefix, self._shard, self._num_shards)
        pieces = [piece for tensor in self._tensors for piece in tensor.pieces]
        return MemoryContent(name, pieces, self._crcs[0])

    @cached_property
    def _crcs(self) -> tuple[int, list[int]]:
        """Of the file and of each tensor, in one pass."""
        of_file, of_tensors = 0, []
        for tensor in self._tensors:
            of_tensor = 0
            for chunk in _chunks(tensor.pieces):
                of_file = google_crc32c.extend(of_file, chunk)
                if tensor.crc32c is None:
                    of_tensor = google_crc32c.extend(of_tensor, chunk)
                MOVED.add(len(chunk))
            of_tensors.append(of_tensor if tensor.crc32c is None else tensor.crc32c)
        return of_file, of_tensors

    def report(self) -> DataReport:
        """What the file holds, for the index over all files."""
        slices = {tensor.key: tensor.whole_shape for tensor in self._tensors if tensor.is_slice}
        pieces = tuple(
            replace(piece, extents=whole_extents(tensor.extents, tensor.whole_shape))
            if tensor.is_slice
            else piece
            for tensor, piece in self._placed()
        )
        return DataReport(self._shard, self._num_shards, pieces, slices)

    def index(self) -> MemoryContent:
        """The index of a checkpoint that has this file only."""
        entries: dict[bytes, bytes] = {}
        slices: dict[str, list[TensorInMemory]] = {}
        for tensor, piece in self._placed():
            key = tensor.key.encode("utf-8", "surrogateescape")
            if tensor.is_slice:
                slices.setdefault(tensor.key, []).append(tensor)
                key = slice_key(tensor.key, tensor.extents)
            entries[key] = entry_bytes(piece)
        for name, parts in slices.items():
            entries[name.encode("utf-8", "surrogateescape")] = serialized(
                "BundleEntry",
                dtype=DTYPE_NUMBERS[parts[0].dtype],
                shape=_shape(parts[0].whole_shape),
                slices=[{"extent": [_extent(*pair) for pair in part.extents]} for part in parts],
            )
        header = serialized("BundleHeader", num_shards=self._num_shards, version={"producer": 1})
        table = table_bytes([(b"", header), *sorted(entries.items())])
        return MemoryContent(f"{self._prefix}.index", [table])

    def _placed(self) -> Iterator[tuple[TensorInMemory, BundleTensor]]:
        """Each tensor and where it lies."""
        offset = 0
        for tensor, crc in zip(self._tensors, self._crcs[1], strict=True):
            yield (
                tensor,
                BundleTensor(
                    tensor.key,
                    tensor.dtype,
                    tensor.shape,
                    self._shard,
                    offset,
                    tensor.size_bytes,
                    crc,
                ),
            )
            offset += tensor.size_bytes


def _chunks(pieces: Sequence[BytesByRange]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), CHUNK_BYTES):
            yield bytes(piece[start : start + CHUNK_BYTES])


def _shape(shape: tuple[int, ...]) -> dict[str, list[dict[str, int]]]:
    return {"dim": [{"size": size} for size in shape]}


def _extent(start: int, length: int) -> dict[str, int]:
    return {} if length == WHOLE_DIMENSION else {"start": start, "length": length}
