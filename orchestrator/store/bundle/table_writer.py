"""How is a sorted table laid out, so that TensorFlow reads it?

Rule: as ``sstable`` reads it: uncompressed blocks of prefix-compressed entries, each with its
checksum, an empty meta-index, an index block and the footer. Made in memory: an index has some
hundred bytes for each tensor.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import google_crc32c

from orchestrator.store.bundle.sstable import FOOTER_BYTES, MAGIC, mask

RESTART_INTERVAL = 16
"""Entries after which a key stands in full again, as in LevelDB."""
ENTRIES_PER_BLOCK = 64
"""About the 4 KB of LevelDB's default block, at the size of a tensor's entry."""


def table_bytes(items: Sequence[tuple[bytes, bytes]], per_block: int = ENTRIES_PER_BLOCK) -> bytes:
    """A table of (key, value), which are sorted by key."""
    out, handles = bytearray(), []
    for start in range(0, max(len(items), 1), per_block):
        block = items[start : start + per_block]
        handles.append((block[-1][0] if block else b"", _append(out, _block(block))))
    footer = _append(out, _block([])) + _append(out, _block(handles))
    return bytes(out + footer.ljust(FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", MAGIC))


def varint(value: int) -> bytes:
    """A number as protobuf and LevelDB write it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _block(items: Sequence[tuple[bytes, bytes]]) -> bytes:
    out, restarts, previous = bytearray(), [], b""
    for number, (key, value) in enumerate(items):
        shared = 0
        if number % RESTART_INTERVAL == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        previous = key
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _append(out: bytearray, block: bytes) -> bytes:
    handle = varint(len(out)) + varint(len(block))
    out += block + b"\0" + struct.pack("<I", mask(google_crc32c.value(block + b"\0")))
    return handle
