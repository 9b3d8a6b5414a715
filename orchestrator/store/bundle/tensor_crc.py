"""Are a tensor's bytes the ones that were saved?

Rule: the checksum in the index covers a tensor's bytes; for strings it covers their lengths as
4-byte numbers (8 bytes beyond 4 GiB), then the lengths' own checksum, then the text
(``tensor_bundle.cc``, ``ReadStringTensor``). Variant tensors have no fixed layout and are left to
TensorFlow.
"""

from __future__ import annotations

import struct

import google_crc32c

from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.packed_strings import counted_length
from orchestrator.store.bundle.sstable import read_varint, unmask

UNCHECKED = frozenset({"variant", "resource"})


def tensor_problem(tensor: BundleTensor, data: bytes) -> str:
    """What's wrong with ``data``, the tensor's bytes from its data file; empty where nothing is."""
    if len(data) != tensor.size_bytes:
        return f"ends after {len(data)} of {tensor.size_bytes} bytes"
    if tensor.crc32c is None or tensor.dtype in UNCHECKED or tensor.slices:
        return ""
    if tensor.dtype == "string":
        return _string_problem(tensor, data)
    return "" if google_crc32c.value(data) == tensor.crc32c else "fails its checksum"


def _string_problem(tensor: BundleTensor, data: bytes) -> str:
    crc, position, total = 0, 0, 0
    try:
        for _ in range(tensor.elements):
            length, position = read_varint(data, position)
            crc = google_crc32c.extend(crc, counted_length(length))
            total += length
        stored = data[position : position + 4]
        if unmask(struct.unpack("<I", stored)[0]) != crc:
            return "fails the checksum of its strings' lengths"
    except (IndexError, ValueError, struct.error):
        return "has damaged string lengths"
    text = data[position + 4 :]
    if len(text) != total:
        return f"holds {len(text)} bytes of text where {total} are due"
    crc = google_crc32c.extend(google_crc32c.extend(crc, stored), text)
    return "" if crc == tensor.crc32c else "fails its checksum"


def string_values(tensor: BundleTensor, data: bytes) -> list[bytes]:
    """The elements of a string tensor in C order, of bytes in which ``tensor_problem`` finds nothing
    wrong.
    """
    lengths, position = [], 0
    for _ in range(tensor.elements):
        length, position = read_varint(data, position)
        lengths.append(length)
    found, position = [], position + 4
    for length in lengths:
        found.append(data[position : position + length])
        position += length
    return found


class RunningCrc:
    """The checksum of a large numeric tensor, piece by piece."""

    def __init__(self, tensor: BundleTensor) -> None:
        self._tensor, self._crc = tensor, 0

    def add(self, data: bytes) -> None:
        """The next bytes."""
        self._crc = google_crc32c.extend(self._crc, data)

    def problem(self) -> str:
        """What's wrong with all bytes so far; empty where nothing is."""
        if self._tensor.crc32c is None or self._tensor.dtype in UNCHECKED:
            return ""
        return "" if self._crc == self._tensor.crc32c else "fails its checksum"
