"""How does a checkpoint go into the store from the memory in which its tensors lie?

Rule: byte for byte what TensorFlow's ``SaveV2`` writes of the same tensors
(``util/tensor_bundle/tensor_bundle.cc``), but never as a file of this machine: where each tensor
lies in which data file follows from the sizes alone, so any part of a file can be read at any time.
The index, which holds every tensor's checksum, is made once those are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import google_crc32c

from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.index_writer import entry_bytes
from orchestrator.store.bundle.protos import DTYPE_NUMBERS, serialized
from orchestrator.store.bundle.slice_keys import WHOLE_DIMENSION, Extents, slice_key
from orchestrator.store.bundle.table_writer import table_bytes
from orchestrator.store.objects.content import MemoryContent
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
    pieces: tuple[bytes | memoryview, ...]
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


@dataclass(frozen=True)
class _Placed:
    tensor: TensorInMemory
    shard: int
    offset: int


class BundleInMemory:
    """The files of one checkpoint.

    Args:
        prefix: its name with its step, such as ``model.ckpt-11000``.
        tensors: in the order in which they're to lie in the data files; nobody may change their
            values as long as this is in use.
    """

    def __init__(self, prefix: str, tensors: Sequence[TensorInMemory]) -> None:
        self._prefix = prefix
        self._placed = list(_placed(tensors))
        self.data_files = 1

    def data(self, shard: int) -> MemoryContent:
        """A data file; its checksums are computed now."""
        return self._checked[shard][0]

    @cached_property
    def _checked(self) -> list[tuple[MemoryContent, list[int]]]:
        return [self._check(shard) for shard in range(self.data_files)]

    def _check(self, shard: int) -> tuple[MemoryContent, list[int]]:
        of_file, of_tensors = 0, []
        here = [each.tensor for each in self._placed if each.shard == shard]
        for tensor in here:
            of_tensor = 0
            for chunk in _chunks(tensor.pieces):
                of_file = google_crc32c.extend(of_file, chunk)
                if tensor.crc32c is None:
                    of_tensor = google_crc32c.extend(of_tensor, chunk)
                MOVED.add(len(chunk))
            of_tensors.append(of_tensor if tensor.crc32c is None else tensor.crc32c)
        name = f"{self._prefix}.data-{shard:05d}-of-{self.data_files:05d}"
        pieces = [piece for tensor in here for piece in tensor.pieces]
        return MemoryContent(name, pieces, of_file), of_tensors

    def index(self) -> MemoryContent:
        """The index."""
        crcs = [iter(self._checked[shard][1]) for shard in range(self.data_files)]
        entries: dict[bytes, bytes] = {}
        slices: dict[str, list[TensorInMemory]] = {}
        for placed in self._placed:
            tensor = placed.tensor
            key = tensor.key.encode("utf-8", "surrogateescape")
            if tensor.is_slice:
                slices.setdefault(tensor.key, []).append(tensor)
                key = slice_key(tensor.key, tensor.extents)
            piece = BundleTensor(
                tensor.key,
                tensor.dtype,
                tensor.shape,
                placed.shard,
                placed.offset,
                tensor.size_bytes,
                next(crcs[placed.shard]),
            )
            entries[key] = entry_bytes(piece)
        for name, parts in slices.items():
            entries[name.encode("utf-8", "surrogateescape")] = serialized(
                "BundleEntry",
                dtype=DTYPE_NUMBERS[parts[0].dtype],
                shape=_shape(parts[0].whole_shape),
                slices=[{"extent": [_extent(*pair) for pair in part.extents]} for part in parts],
            )
        header = serialized("BundleHeader", num_shards=self.data_files, version={"producer": 1})
        table = table_bytes([(b"", header), *sorted(entries.items())])
        return MemoryContent(f"{self._prefix}.index", [table])


def _placed(tensors: Sequence[TensorInMemory]) -> Iterator[_Placed]:
    offset = 0
    for tensor in tensors:
        yield _Placed(tensor, 0, offset)
        offset += tensor.size_bytes


def _chunks(pieces: Sequence[bytes | memoryview]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), CHUNK_BYTES):
            yield bytes(piece[start : start + CHUNK_BYTES])


def _shape(shape: tuple[int, ...]) -> dict[str, list[dict[str, int]]]:
    return {"dim": [{"size": size} for size in shape]}


def _extent(start: int, length: int) -> dict[str, int]:
    return {} if length == WHOLE_DIMENSION else {"start": start, "length": length}
