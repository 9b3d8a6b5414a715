"""What does a damaged index still say?

Rule: whatever a checksum covers is believed. Blocks that fail theirs, or whose place the table no
longer tells, are read entry by entry as far as they go; such a
record is doubtful. A flipped bit makes ``layer_1`` of ``layer_0`` and all that shares its prefix,
so a doubtful record counts only where all between it and a certain one are the very keys that the
graph expects there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

import google_crc32c

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor, tensor_of_entry
from orchestrator.store.bundle.protos import parse
from orchestrator.store.bundle.slice_keys import slice_of
from orchestrator.store.bundle.sstable import Table, block_entries, table_of, unmask

SCANNED_BYTES = 4 << 20
"""Of a block without a known end: each byte costs a third of a microsecond."""


@dataclass(frozen=True)
class DoubtfulRun:
    """Records that no checksum covers, in the order of the file, and the certain keys around them.

    Attributes:
        before, after: None where there is none.
        records: (key, what its record says; None where that is damaged).
    """

    before: str | None
    records: tuple[tuple[str, BundleTensor | None], ...]
    after: str | None = None

    def vouched(self, expected: Sequence[str]) -> dict[str, BundleTensor]:
        """Those that stand where they have to.

        Args:
            expected: all keys of the checkpoint, in the order of an index.
        """
        places = {key: number for number, key in enumerate(expected)}
        found: dict[str, BundleTensor] = {}
        if self.before is None or self.before in places:
            first = 0 if self.before is None else places[self.before] + 1
            found |= _while_alike(self.records, expected[first:])
        if self.after in places:
            found |= _while_alike(self.records[::-1], expected[: places[self.after]][::-1])
        return found


def _while_alike(
    records: Sequence[tuple[str, BundleTensor | None]], expected: Sequence[str]
) -> dict[str, BundleTensor]:
    alike = takewhile(lambda pair: pair[0][0] == pair[1], zip(records, expected, strict=False))
    return {key: tensor for (key, tensor), _ in alike if tensor is not None}


@dataclass(frozen=True)
class DamagedIndex:
    """What could be read.

    Attributes:
        index: the tensors whose records a checksum covers; of a partitioned one those parts.
        doubtful: the other records.
        problems: what is wrong with the index, in words.
    """

    index: BundleIndex
    doubtful: tuple[DoubtfulRun, ...] = ()
    problems: tuple[str, ...] = ()


def index_order(keys: Iterable[str]) -> list[str]:
    """Keys in the order of an index: by their bytes."""
    return sorted(keys, key=lambda key: key.encode("utf-8", "surrogateescape"))


@dataclass
class _Found:
    entries: dict[str, BundleTensor] = field(default_factory=dict)
    slices: list[BundleTensor] = field(default_factory=list)
    runs: list[DoubtfulRun] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    last: str | None = None
    doubtful: list[tuple[str, BundleTensor | None]] = field(default_factory=list)

    def certain(self, key: str) -> None:
        """A key that a checksum covers; ends a run."""
        self.end_run(key)
        self.last = key

    def end_run(self, after: str | None) -> None:
        """The doubtful records so far are a run."""
        if self.doubtful:
            self.runs.append(DoubtfulRun(self.last, tuple(self.doubtful), after))
            self.doubtful = []


def read_damaged_index(data: bytes, num_shards: int, name: str) -> DamagedIndex:
    """What the bytes of a ``.index`` file still say.

    Args:
        num_shards: data files, as their names tell.
        name: of the file, for messages.

    Raises:
        SourceError: a Git LFS pointer instead of the file.
    """
    found = _Found()
    for key, value, sure in _records(data, name, found.problems):
        if sure:
            try:
                _take(found, key, value, num_shards, name)
            except CorruptCheckpoint as error:
                found.problems.append(error.message)
        elif key[:1] not in (b"", b"\0"):
            found.doubtful.append(_doubtful(key, value, num_shards, name))
    found.end_run(None)
    index = BundleIndex("V2", num_shards, found.entries, tuple(found.slices))
    return DamagedIndex(index, tuple(found.runs), tuple(found.problems))


def _take(found: _Found, key: bytes, value: bytes, num_shards: int, name: str) -> None:
    if key[:1] == b"\0":
        whole, extents = slice_of(key, name)
        part = tensor_of_entry(whole, value, num_shards, name, of_slice=True)
        found.slices.append(replace(part, extents=extents))
    elif key:
        whole = key.decode("utf-8", "surrogateescape")
        found.certain(whole)
        found.entries[whole] = tensor_of_entry(whole, value, num_shards, name)


def _doubtful(
    key: bytes, value: bytes, num_shards: int, name: str
) -> tuple[str, BundleTensor | None]:
    whole = key.decode("utf-8", "surrogateescape")
    try:
        return whole, tensor_of_entry(whole, value, num_shards, name)
    except CorruptCheckpoint:
        return whole, None


def _records(data: bytes, name: str, problems: list[str]) -> Iterator[tuple[bytes, bytes, bool]]:
    """(key, value, whether a checksum covers it) of all that can be read."""
    try:
        table = table_of(data, name)
    except CorruptCheckpoint as error:
        problems.append(error.message)
        yield from _without_table(data)
        return
    for block in range(table.block_count):
        yield from _block(table, block, data, problems)


def _block(
    table: Table, block: int, data: bytes, problems: list[str]
) -> Iterator[tuple[bytes, bytes, bool]]:
    try:
        records = list(table.block_items(block))
    except CorruptCheckpoint as error:
        problems.append(error.message)
        offset, size = table.block_place(block)
        yield from _as_far_as_it_goes(data[offset : offset + size])
        return
    for key, value in records:
        yield key, value, True


def _without_table(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Block after block from the start: where one ends is where its checksum fits."""
    position = 0
    while position < len(data):
        end = _end_of_block(data, position)
        if end is None:
            yield from _as_far_as_it_goes(data[position:])
            return
        try:
            records = list(block_entries(data[position:end]))
        except (IndexError, ValueError, struct.error):
            return  # a checksum that fits by chance, or no block of entries
        if not records:
            return  # the meta-index, which is empty: the table's own index follows
        for key, value in records:
            yield key, value, True
        position = end + 5


def _end_of_block(data: bytes, start: int) -> int | None:
    """Where a plain block that begins at ``start`` ends; None where no checksum fits."""
    crc = 0
    for end in range(start, min(len(data) - 4, start + SCANNED_BYTES)):
        crc = google_crc32c.extend(crc, data[end : end + 1])
        if data[end] == 0 and crc == unmask(struct.unpack_from("<I", data, end + 1)[0]):
            return end
    return None


def _as_far_as_it_goes(block: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    try:
        for key, value in block_entries(block, len(block)):
            yield key, value, False
    except (IndexError, ValueError):
        return


def header_shards(data: bytes, name: str) -> int | None:
    """How many data files the index's header names; None where that can't be read."""
    for key, value, _ in _records(data, name, []):
        if key == b"":
            try:
                count = int(parse("BundleHeader", value, name).num_shards)
            except CorruptCheckpoint:
                return None
            return count if 0 < count <= 100_000 else None
    return None
