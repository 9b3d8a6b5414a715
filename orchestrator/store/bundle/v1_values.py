"""Which values does a record of the V1 format hold?

Rule: a ``SavedTensorSlices`` record is walked by hand, field by field (protobuf's wire format), and
the values are taken where they lie: a parsed message would hold a large variable three times over.
Numbers come out as TensorFlow's V2 format lays them out, little-endian in C order; where a record
has fewer values than elements the last one is repeated, as everywhere in TensorFlow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.protos import ITEM_BYTES
from orchestrator.store.bundle.sstable import read_varint

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Protocol buffers' wire types."""
_DATA, _TENSOR = 2, 3
"""Fields: ``SavedTensorSlices.data`` and ``SavedSlice.data`` (``saved_tensor_slice.proto``)."""
_CONTENT, _STRINGS = 4, 8
"""Fields ``tensor_content`` and ``string_val`` of ``tensor.proto``."""
_RAW = frozenset({5, 6, 9, 12})
"""float, double and both complex types: packed, they're the bytes that are wanted."""
_NUMBERS = frozenset({7, 10, 11, 13, 16, 17})
"""int32, int64, bool, half, uint32 and uint64, as varints."""


@dataclass
class Record:
    """What one record of a V1 table holds.

    Attributes:
        dtype: as in ``BundleTensor``.
        pieces: bytes of the values in order, for numbers.
        strings: for a string tensor.
    """

    dtype: str
    pieces: list[bytes | memoryview] = field(default_factory=list)
    strings: list[bytes] = field(default_factory=list)

    def content(self, elements: int, file: str, key: str) -> bytes | memoryview:
        """The bytes of ``elements`` numbers. Raises CorruptCheckpoint: the record has other
        contents.
        """
        width = ITEM_BYTES.get(self.dtype)
        if width is None:
            raise CorruptCheckpoint(
                f"{file}: {key!r} has {self.dtype} where plain numbers are due",
                remedy="Use another checkpoint, or copy this one again",
            )
        content = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        size = len(content)
        if size % width or size > elements * width:
            raise CorruptCheckpoint(
                f"{file}: {key!r} has {size} bytes of values where {elements * width} are due",
                remedy="Use another checkpoint, or copy this one again",
            )
        lacking = elements - size // width
        if lacking:
            last = bytes(content[-width:]) if size else bytes(width)
            return bytes(content) + last * lacking
        return content


def read_record(record: bytes, dtype: str, file: str) -> Record:
    """The values of a record.

    Args:
        dtype: of the tensor as the table of contents says; TensorFlow leaves it out here.
        file: for messages.

    Raises:
        CorruptCheckpoint: the record isn't one of a slice's data.
    """
    found = Record(dtype)
    try:
        for number, value in _fields(memoryview(record)):
            if number == _DATA and isinstance(value, memoryview):
                for inner, tensor in _fields(value):
                    if inner == _TENSOR and isinstance(tensor, memoryview):
                        _read_tensor(tensor, found)
    except (IndexError, ValueError, struct.error) as error:
        raise CorruptCheckpoint(
            f"{file} holds a damaged record ({error})",
            remedy="Use another checkpoint, or copy this one again",
        ) from error
    return found


def _read_tensor(tensor: memoryview, found: Record) -> None:
    for number, value in _fields(tensor):
        if number == _STRINGS and isinstance(value, memoryview):
            found.strings.append(bytes(value))
        elif number == _CONTENT or number in _RAW:
            found.pieces.append(_fixed(value))
        elif number in _NUMBERS:
            numbers = _varints(value) if isinstance(value, memoryview) else _one(value)
            found.pieces.append(_narrowed(numbers, found.dtype))


def _fixed(value: int | memoryview | bytes) -> bytes | memoryview:
    if isinstance(value, int):
        raise ValueError("a number where bytes are due")
    return value


def _one(value: int | bytes) -> np.ndarray:
    if isinstance(value, bytes):
        raise ValueError("bytes where a number is due")
    # Of ten bytes, which have 70 bits, protobuf takes the lowest 64
    return np.array([value & 0xFFFF_FFFF_FFFF_FFFF], np.uint64)


def _narrowed(numbers: np.ndarray, dtype: str) -> bytes:
    width = ITEM_BYTES.get(dtype)
    if width is None:
        raise ValueError(f"numbers of the type {dtype}")
    return bytes(numbers.astype(np.dtype(f"<u{width}")).tobytes())


def _varints(packed: memoryview) -> np.ndarray:
    raw = np.frombuffer(packed, np.uint8)
    if not len(raw):
        return np.zeros(0, np.uint64)
    ends = np.flatnonzero(raw < 0x80)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise ValueError("a number beyond its record")
    starts = np.concatenate([[0], ends[:-1] + 1])
    widths = ends - starts + 1
    if widths.max() > 10:
        raise ValueError("a number of more than 64 bits")
    found = np.zeros(len(ends), np.uint64)
    for byte in range(int(widths.max())):
        those = widths > byte
        bits = (raw[starts[those] + byte] & 0x7F).astype(np.uint64)
        found[those] |= bits << np.uint64(7 * byte)
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, int | bytes | memoryview]]:
    """(field number, value) of a message: numbers for varints, bytes for fixed widths, a view for
    all that has a length.
    """
    position = 0
    while position < len(message):
        tag, position = read_varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            number, position = read_varint(message, position)
            yield tag >> 3, number
            continue
        if kind == _BYTES:
            size, position = read_varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of the kind {kind}")
        if position + size > len(message):
            raise ValueError("a field beyond its message")
        value = message[position : position + size]
        yield tag >> 3, value if kind == _BYTES else bytes(value)
        position += size
