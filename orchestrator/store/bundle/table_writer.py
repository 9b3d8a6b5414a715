"""How is a sorted table laid out, so that TensorFlow reads it?

Rule: byte for byte as TensorFlow's own writer does (``lib/io/table_builder.cc``,
``block_builder.cc``): uncompressed blocks of prefix-compressed entries, each with its checksum, an
empty meta-index, an index block and the footer. Made in memory: an index has some hundred bytes for
each tensor.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import google_crc32c

from orchestrator.store.bundle.sstable import FOOTER_BYTES, MAGIC, mask

RESTART_INTERVAL = 16
"""Entries after which a key stands in full again: ``block_restart_interval`` of TensorFlow's
``lib/io/table_options.h``. In the index block every one does.
"""
BLOCK_BYTES = 256 << 10
"""A block that has reached this size is ended: ``block_size`` of the same file."""


class _Block:
    """Entries with what their keys share left out."""

    def __init__(self, interval: int) -> None:
        self._interval, self._out, self._restarts = interval, bytearray(), [0]
        self._counter, self.last = 0, b""

    @property
    def size_bytes(self) -> int:
        return len(self._out) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._counter < self._interval:
            shared = _alike(key, self.last)
        else:
            self._restarts.append(len(self._out))
            self._counter = 0
        self._out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        self._out += key[shared:] + value
        self.last = key
        self._counter += 1

    def to_bytes(self) -> bytes:
        restarts = struct.pack(f"<{len(self._restarts) + 1}I", *self._restarts, len(self._restarts))
        return bytes(self._out) + restarts


def table_bytes(items: Sequence[tuple[bytes, bytes]], block_bytes: int = BLOCK_BYTES) -> bytes:
    """A table of (key, value), which are sorted by key."""
    out, index, block = bytearray(), _Block(1), _Block(RESTART_INTERVAL)
    for number, (key, value) in enumerate(items):
        block.add(key, value)
        last = number + 1 == len(items)
        if last or block.size_bytes >= block_bytes:
            handle = _append(out, block)
            index.add(_successor(key) if last else _separator(key, items[number + 1][0]), handle)
            block = _Block(RESTART_INTERVAL)
    footer = _append(out, _Block(RESTART_INTERVAL)) + _append(out, index)
    return bytes(out + footer.ljust(FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", MAGIC))


def varint(value: int) -> bytes:
    """A number as protobuf and LevelDB write it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _alike(one: bytes, other: bytes) -> int:
    shared, end = 0, min(len(one), len(other))
    while shared < end and one[shared] == other[shared]:
        shared += 1
    return shared


def _separator(key: bytes, following: bytes) -> bytes:
    """A short key from ``key`` on that comes before ``following``."""
    place = _alike(key, following)
    # Of two keys of which one begins with the other, the first isn't shortened
    if place < min(len(key), len(following)) and key[place] + 1 < following[place]:
        return key[:place] + bytes([key[place] + 1])
    return key


def _successor(key: bytes) -> bytes:
    """A short key that comes after ``key``."""
    for place, byte in enumerate(key):
        if byte != 0xFF:
            return key[:place] + bytes([byte + 1])
    return key


def _append(out: bytearray, block: _Block) -> bytes:
    content = block.to_bytes()
    handle = varint(len(out)) + varint(len(content))
    out += content + b"\0" + struct.pack("<I", mask(google_crc32c.value(content + b"\0")))
    return handle
