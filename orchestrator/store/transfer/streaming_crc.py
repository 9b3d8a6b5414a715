"""Which tensors of a data file could be checked while it was downloaded?

Rule: a stream's bytes are added up while they're still in the processor's cache, so that a
checkpoint isn't read once more after it's here. What came in pieces by several streams, and what
has no plain checksum (strings), is left to ``deep``, which reads the file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import google_crc32c

from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.tensor_crc import UNCHECKED

Consumer = Callable[[memoryview], None]
PART_BYTES = 64 * 1024
"""Copied for the checksum at a time: larger ones get new pages from the kernel each time, which
cost three times the checksum.
"""


class Arriving:
    """The tensors of one data file. Safe for streams in threads of their own.

    Attributes:
        good: those whose bytes came as they were saved.
    """

    def __init__(self, index: BundleIndex, shard: int) -> None:
        self.good: set[BundleTensor] = set()
        self._pieces = [
            piece for piece in index.pieces if piece.shard == shard and _has_plain_checksum(piece)
        ]
        self._offsets = [piece.offset for piece in self._pieces]

    def consumer(self, position: int) -> Consumer:
        """Takes the bytes of one stream that begins at ``position`` of the file, in order."""
        return _Stream(self._pieces, bisect_left(self._offsets, position), position, self.good).add


class _Stream:
    def __init__(
        self, pieces: list[BundleTensor], first: int, position: int, good: set[BundleTensor]
    ) -> None:
        self._pieces, self._next, self._position, self._good = pieces, first, position, good
        self._crc = 0

    def add(self, data: memoryview) -> None:
        begin, end = self._position, self._position + len(data)
        self._position = end
        while self._next < len(self._pieces) and self._pieces[self._next].offset < end:
            piece = self._pieces[self._next]
            piece_end = piece.offset + piece.size_bytes
            part = data[max(piece.offset, begin) - begin : min(piece_end, end) - begin]
            for start in range(0, len(part), PART_BYTES):
                self._crc = google_crc32c.extend(self._crc, bytes(part[start : start + PART_BYTES]))
            if piece_end > end:
                return
            if self._crc == piece.crc32c:
                self._good.add(piece)
            self._next, self._crc = self._next + 1, 0


def _has_plain_checksum(piece: BundleTensor) -> bool:
    return (
        piece.crc32c is not None
        and not piece.slices
        and piece.dtype != "string"
        and piece.dtype not in UNCHECKED
    )
