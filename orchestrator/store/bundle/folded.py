"""What are the values of a checkpoint that stands on others?

Rule: a tensor is what the newest save says that holds it whole, with the rows over it that later
saves have changed, in their order. It's put together piece by piece as it's read: nobody holds more
than the rows that were asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Self

import numpy as np

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.changed_rows import ChangedRows, changed_in, is_whole, row_numbers
from orchestrator.store.bundle.joint_crc import PartRead, joint_problems
from orchestrator.store.bundle.protos import ITEM_BYTES
from orchestrator.store.bundle.row_reader import RowReader
from orchestrator.store.bundle.stored_index import stored_index
from orchestrator.store.bundle.tensor_writer import TensorWriter
from orchestrator.store.bundle.values import CHUNK_BYTES, Chunk, Values
from orchestrator.store.objects.location import FileInfo

_REMEDY = "Use an older checkpoint; `tfresume checkpoints RUN --verify` shows which are good"


@dataclass(frozen=True)
class ChainSave:
    """One save of a chain: what it holds, and its files, as ``Values`` takes them."""

    index: BundleIndex
    files: Sequence[FileInfo | None]
    name: str


class Folded:
    """The tensors of a chain, as if they were one checkpoint's.

    Args:
        saves: the full one first, each later one over those before it.

    Attributes:
        index: what it holds; where that lies in files can't be told, so offsets mean nothing.

    Raises:
        CorruptCheckpoint: a save changes what those before it don't hold.
    """

    def __init__(self, saves: Sequence[ChainSave]) -> None:
        self._saves = saves
        self._whole: dict[str, int] = {}
        self._over: dict[str, list[tuple[int, ChangedRows]]] = {}
        self._numbers: dict[str, list[np.ndarray]] = {}
        entries: dict[str, BundleTensor] = {}
        for number, save in enumerate(saves):
            for key, tensor in save.index.entries.items():
                if is_whole(key):
                    entries[key], self._whole[key], self._over[key] = tensor, number, []
            for key, ranks in changed_in(save.index, save.name).items():
                for changed in ranks:
                    _check_fit(entries.get(key), changed, key, save.name)
                    self._over[key].append((number, changed))
        self.index = BundleIndex(saves[0].index.format, saves[0].index.num_shards, entries)

    @classmethod
    def of(cls, links: Iterable[Sequence[FileInfo]]) -> Self:
        """What the files of some saves hold, the index of each first. Raises CorruptCheckpoint,
        SourceError, StorageUnavailable.
        """
        return cls([ChainSave(stored_index(files), files, files[0].name) for files in links])

    def chunks(self, key: str) -> Iterator[Chunk]:
        """As ``Values.chunks``."""
        if not self._over[key]:
            save = self._saves[self._whole[key]]
            yield from Values(save.index, save.files).chunks(key)
            return
        tensor = self.index.entries[key]
        row_bytes = prod(tensor.shape[1:]) * ITEM_BYTES[tensor.dtype]
        at_once, reads = max(1, CHUNK_BYTES // max(1, row_bytes)), list[PartRead]()
        for start in range(0, tensor.shape[0], at_once):
            stop = min(start + at_once, tensor.shape[0])
            block = bytearray((stop - start) * row_bytes)
            reads += self.read(key, start, stop, memoryview(block))
            problems = joint_problems(reads) if stop == tensor.shape[0] else []
            if problems:
                raise CorruptCheckpoint(problems[0], remedy=_REMEDY)
            yield memoryview(block)

    def strings(self, key: str) -> list[bytes]:
        """As ``Values.strings``."""
        save = self._saves[self._whole[key]]
        return Values(save.index, save.files).strings(key)

    def read(self, key: str, start: int, stop: int, into: memoryview) -> list[PartRead]:
        """As ``RowReader.read``: rows of a table as the last save left them."""
        save = self._saves[self._whole.get(key, 0)]
        reads = RowReader(save.index, save.files).read(key, start, stop, into)
        if len(into):
            out = np.frombuffer(into, np.uint8).reshape(stop - start, -1)
            for (number, changed), rows in zip(self._over[key], self._rows(key), strict=True):
                reads += self._put_over(self._saves[number], changed, rows, start, out)
        return reads

    def write(self, prefix: Path, keys: Iterable[str]) -> None:
        """Write some of the tensors as one plain checkpoint, ``prefix.index`` and its data file.

        Args:
            prefix: in a local directory that is there.

        Raises:
            CorruptCheckpoint: a save isn't what was saved. SourceError, StorageUnavailable.
        """
        with TensorWriter(prefix) as writer:
            for key in sorted(keys):
                tensor = self.index.entries[key]
                if tensor.dtype == "string":
                    writer.add_strings(key, tensor.shape, self.strings(key))
                else:
                    writer.add(key, tensor.dtype, tensor.shape, self.chunks(key))
            writer.finish()

    def check_rows(self) -> None:
        """Look at the numbers of all changed rows. Raises CorruptCheckpoint."""
        for key in self._over:
            self._rows(key)

    def _rows(self, key: str) -> list[np.ndarray]:
        """The numbers of a table's changed rows, save by save and rank by rank. Those of the last
        table are kept: it's read block after block.
        """
        if key not in self._numbers:
            found, shape = [], self.index.entries[key].shape
            for number, changed in self._over[key]:
                save = self._saves[number]
                content = b"".join(Values(save.index, save.files).chunks(changed.rows.key))
                found.append(row_numbers(content, shape, save.name, key))
            self._numbers = {key: found}
        return self._numbers[key]

    @staticmethod
    def _put_over(
        save: ChainSave, changed: ChangedRows, rows: np.ndarray, start: int, out: np.ndarray
    ) -> list[PartRead]:
        first, end = np.searchsorted(rows, [start, start + len(out)]).tolist()
        reader, at_once = RowReader(save.index, save.files), max(1, CHUNK_BYTES // out.shape[1])
        reads: list[PartRead] = []
        for at in range(first, end, at_once):
            stop = min(at + at_once, end)
            block = bytearray((stop - at) * out.shape[1])
            reads += reader.read(changed.values.key, at, stop, memoryview(block))
            out[rows[at:stop] - start] = np.frombuffer(block, np.uint8).reshape(stop - at, -1)
        return reads


def _check_fit(table: BundleTensor | None, changed: ChangedRows, key: str, name: str) -> None:
    values = changed.values
    if table is None or (values.dtype, values.shape[1:]) != (table.dtype, table.shape[1:]):
        held = "don't hold" if table is None else f"hold as {table.dtype} {list(table.shape)}"
        raise CorruptCheckpoint(
            f"{name} changes rows of {key!r}, which the saves before it {held}", remedy=_REMEDY
        )
