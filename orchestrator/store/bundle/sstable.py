"""Which keys and values does a sorted table file hold?

Rule: LevelDB's table format as TensorFlow writes it (``lib/io/table``): blocks of prefix-compressed
entries, each followed by its kind (0 plain, 1 Snappy) and a masked crc32c; one index block; a
footer of 48 bytes. Every length is checked before it is used, every crc before its block is
believed.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator

import google_crc32c

from orchestrator.errors import CorruptCheckpoint, SourceError

FOOTER_BYTES = 48
"""Two block handles of at most 20 bytes each, and the magic number: ``Footer::kEncodedLength`` of
TensorFlow's ``xla/tsl/lib/io/format.h``.
"""
MAGIC = 0xDB4775248B80FB57
"""``kTableMagicNumber`` of the same file; LevelDB's tables end with it too."""
_MASK_DELTA = 0xA282EAD8
"""``kMaskDelta`` of TensorFlow's ``xla/tsl/lib/hash/crc32c.h``: checksums are stored masked, so
that a checksum over stored ones tells something.
"""
MAX_BLOCK_BYTES = 1 << 30
"""A block holds at least one whole entry, in V1 files a whole variable: larger ones than this are
damage, not data.
"""

ReadRange = Callable[[int, int], bytes]
"""(start, end) -> the file's bytes in between."""


def unmask(crc: int) -> int:
    """The crc32c that TensorFlow stored as ``crc``; it stores them rotated, since a crc over data
    with crcs in it is weak.
    """
    rotated = (crc - _MASK_DELTA) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def mask(crc: int) -> int:
    """What TensorFlow stores for the crc32c ``crc``."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """The varint at ``position`` and the position after it. Raises IndexError past the end,
    ValueError over 64 bits.
    """
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


class Table:
    """A table, read block by block through ``read``.

    Args:
        read: gives any range of the file.
        size_bytes: of the whole file.
        name: for messages.

    Raises:
        CorruptCheckpoint: too short, no table, or its index is damaged.
    """

    def __init__(self, read: ReadRange, size_bytes: int, name: str) -> None:
        self._read, self._size, self._name = read, size_bytes, name
        index = list(self._whole(self._index_block()))
        self._blocks = [self._handle(value) for _, value in index]
        self._last_keys = [key for key, _ in index]

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All (key, value) in order. Raises CorruptCheckpoint."""
        for block in range(len(self._blocks)):
            yield from self.block_items(block)

    def items_with(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The (key, value) of all keys that begin with ``prefix``; only blocks that may hold one are
        read. Raises CorruptCheckpoint.
        """
        for block in range(bisect_left(self._last_keys, prefix), len(self._blocks)):
            for key, value in self.block_items(block):
                if key.startswith(prefix):
                    yield key, value
                elif key > prefix:
                    return

    @property
    def block_count(self) -> int:
        """How many data blocks the table has."""
        return len(self._blocks)

    def block_items(self, block: int) -> Iterator[tuple[bytes, bytes]]:
        """The (key, value) of one data block. Raises CorruptCheckpoint."""
        return self._whole(self._block(*self._blocks[block]))

    def block_place(self, block: int) -> tuple[int, int]:
        """Offset and size of one data block, as the table's index says."""
        return self._blocks[block]

    def _index_block(self) -> bytes:
        if self._size < FOOTER_BYTES:
            what = "is empty" if self._size == 0 else f"has only {self._size} bytes"
            raise self._damage(f"{what}: not a checkpoint index")
        footer = self._read(self._size - FOOTER_BYTES, self._size)
        if len(footer) != FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
            raise self._damage(
                "doesn't end in a table's footer: truncated, or not a checkpoint index"
            )
        try:
            _, position = read_varint(footer, 0)  # the meta-index, unused
            _, position = read_varint(footer, position)
            offset, position = read_varint(footer, position)
            size, _ = read_varint(footer, position)
        except (IndexError, ValueError) as error:
            raise self._damage("has a damaged footer") from error
        return self._block(offset, size)

    def _handle(self, value: bytes) -> tuple[int, int]:
        try:
            offset, position = read_varint(value, 0)
            size, _ = read_varint(value, position)
        except (IndexError, ValueError) as error:
            raise self._damage("has a damaged block handle") from error
        return offset, size

    def _block(self, offset: int, size: int) -> bytes:
        end = offset + size + 5
        if size > MAX_BLOCK_BYTES or end > self._size:
            raise self._damage(
                f"names a block of {size} bytes at {offset}, beyond its own {self._size} bytes"
            )
        data = self._read(offset, end)
        if len(data) != size + 5:
            raise self._damage(
                f"ended at byte {offset + len(data)} of {self._size} while it was read"
            )
        kind, stored = data[size], struct.unpack("<I", data[size + 1 :])[0]
        if google_crc32c.value(data[: size + 1]) != unmask(stored):
            raise self._damage(f"fails its checksum in the block at byte {offset}")
        if kind == 0:
            return data[:size]
        if kind == 1:
            return self._uncompressed(data[:size])
        raise self._damage(f"has a block of unknown kind {kind} at byte {offset}")

    def _uncompressed(self, data: bytes) -> bytes:
        from orchestrator.store.bundle.snappy import uncompress

        try:
            return uncompress(data, MAX_BLOCK_BYTES)
        except ValueError as error:
            raise self._damage(f"has a damaged compressed block ({error})") from error

    def _whole(self, block: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from block_entries(block)
        except (IndexError, ValueError, struct.error) as error:
            raise self._damage(f"has a block with damaged entries ({error})") from error

    def _damage(self, what: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(
            f"{self._name} {what}",
            remedy="Use another checkpoint, or copy this one again",
            details={"file": self._name},
        )


def block_entries(block: bytes, end: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """The (key, value) of a block.

    Args:
        end: where its entries end, for one that lost its end; None where its last bytes tell.

    Raises:
        IndexError, ValueError, struct.error: it's damaged; the entries before that were given.
    """
    if end is None:
        end = len(block) - 4 * (struct.unpack("<I", block[-4:])[0] + 1)
    if end < 0:
        raise ValueError("more restart points than bytes")
    key, position = b"", 0
    while position < end:
        shared, position = read_varint(block, position)
        fresh, position = read_varint(block, position)
        size, position = read_varint(block, position)
        if shared > len(key) or position + fresh + size > end:
            raise ValueError("an entry beyond its block")
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + size]
        position += size


def table_of(data: bytes, name: str) -> Table:
    """A table whose bytes are all here. Raises CorruptCheckpoint, SourceError (a pointer instead of
    a file).
    """
    if data.startswith(b"version https://git-lfs"):
        raise SourceError(
            f"{name} is a Git LFS pointer, not the file itself",
            remedy="Fetch the files with `git lfs pull`",
        )
    return Table(lambda start, end: data[start:end], len(data), name)
