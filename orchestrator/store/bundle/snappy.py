"""What did a Snappy-compressed block hold?

Rule: the raw Snappy format (google/snappy, format_description.txt), decoding only. TensorFlow
compresses V1 checkpoints; their blocks are decoded here rather than through one more native
library. Lengths are checked before memory is taken.
"""

from __future__ import annotations


def uncompress(data: bytes, limit_bytes: int) -> bytes:
    """The uncompressed bytes.

    Raises:
        ValueError: not Snappy, damaged, or longer than ``limit_bytes``.
    """
    size, position = _length(data)
    if size > limit_bytes:
        raise ValueError(f"{size} bytes claimed, over the limit of {limit_bytes}")
    out = bytearray()
    while position < len(data):
        tag = data[position]
        if tag & 3 == 0:
            position = _literal(data, position, out)
        else:
            position = _copy(data, position, out)
        if len(out) > size:
            raise ValueError("more bytes than it claims")
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes instead of {size}")
    return bytes(out)


def _length(data: bytes) -> tuple[int, int]:
    size = 0
    for position, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return size, position + 1
    raise ValueError("no length")


def _literal(data: bytes, position: int, out: bytearray) -> int:
    length = data[position] >> 2
    position += 1
    if length >= 60:
        extra = length - 59
        length = int.from_bytes(data[position : position + extra], "little")
        position += extra
    end = position + length + 1
    if end > len(data):
        raise ValueError("a literal beyond the end")
    out += data[position:end]
    return end


def _copy(data: bytes, position: int, out: bytearray) -> int:
    tag, kind = data[position], data[position] & 3
    width = {1: 1, 2: 2, 3: 4}[kind]
    if position + 1 + width > len(data):
        raise ValueError("a copy beyond the end")
    offset = int.from_bytes(data[position + 1 : position + 1 + width], "little")
    length = (tag >> 2) + 1
    if kind == 1:
        offset |= (tag >> 5) << 8
        length = ((tag >> 2) & 7) + 4
    if offset == 0 or offset > len(out):
        raise ValueError("a copy from before the start")
    while length:
        piece = out[len(out) - offset : len(out) - offset + length]
        out += piece
        length -= len(piece)
    return position + 1 + width
