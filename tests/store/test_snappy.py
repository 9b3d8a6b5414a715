"""Is a compressed block what went into it, and is one that can't be refused with the reason?"""

from __future__ import annotations

import random

import pytest

from orchestrator.store.bundle.snappy import uncompress
from orchestrator.store.bundle.table_writer import varint


def literal(text: bytes, width: int = 0) -> bytes:
    """Bytes as they are, their length in the tag or in so many bytes behind it."""
    if not width:
        return bytes([(len(text) - 1) << 2]) + text
    return bytes([(59 + width) << 2]) + (len(text) - 1).to_bytes(width, "little") + text


def copy(length: int, offset: int, width: int) -> bytes:
    """``length`` bytes from ``offset`` before here, with an offset of so many bytes."""
    if width == 1:
        return bytes([offset >> 8 << 5 | (length - 4) << 2 | 1, offset & 0xFF])
    return bytes([(length - 1) << 2 | (2 if width == 2 else 3)]) + offset.to_bytes(width, "little")


def block(text: bytes | bytearray, *parts: bytes) -> bytes:
    """What says to hold ``text``."""
    return varint(len(text)) + b"".join(parts)


TEXT = random.Random(0).randbytes(66_560)
"""Longer than an offset of two bytes reaches."""


@pytest.mark.parametrize(
    ("length", "width"),
    [(1, 0), (60, 0), (1, 1), (61, 1), (256, 1), (257, 2), (1 << 16, 2), (65_537, 3), (300, 4)],
)
def test_literal_of_any_length_is_itself(length: int, width: int) -> None:
    text = TEXT[:length]
    assert uncompress(block(text, literal(text, width)), length) == text
    more = block(text + b"!", literal(text, width), literal(b"!"))
    assert uncompress(more, length + 1) == text + b"!"


@pytest.mark.parametrize(
    ("length", "offset", "width"),
    [
        *((4, 1, 1), (11, 300, 1), (11, 2047, 1), (7, 4, 1)),
        *((1, 1, 2), (64, 256, 2), (64, 65_535, 2), (64, 3, 2)),
        *((1, 1, 4), (64, 65_536, 4), (64, len(TEXT), 4), (64, 5, 4)),
    ],
)
def test_copy_of_any_length_from_any_place_is_what_stands_there(
    length: int, offset: int, width: int
) -> None:
    expected = bytearray(TEXT)
    for _ in range(length):  # it may reach into what it writes
        expected.append(expected[-offset])
    expected += b"more"
    made = block(expected, literal(TEXT, 3), copy(length, offset, width), literal(b"more"))
    assert uncompress(made, len(expected)) == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no length"),
        (b"\xff" * 4, "no length"),
        (b"\x80" * 5 + b"\0", "no length"),
        (b"\x0b" + literal(b"abc"), "11 bytes claimed, over the limit of 10"),
        (b"\x03" + literal(b"ab"), "2 bytes instead of 3"),
        (b"\x01", "0 bytes instead of 1"),
        (b"\x03" + literal(b"abcd"), "more bytes than it claims"),
        (b"\x05" + literal(b"ab") + copy(4, 2, 1), "more bytes than it claims"),
        (b"\x03" + literal(b"abc")[:-1], "a literal beyond the end"),
        (b"\x03" + literal(b"abc", 2)[:-1], "a literal beyond the end"),
        (b"\x03" + literal(b"abc", 4)[:3], "a literal beyond the end"),
        (b"\x08" + literal(b"abcd") + copy(4, 4, 1)[:-1], "a copy beyond the end"),
        (b"\x08" + literal(b"abcd") + copy(4, 4, 2)[:-1], "a copy beyond the end"),
        (b"\x08" + literal(b"abcd") + copy(4, 4, 4)[:-1], "a copy beyond the end"),
        (b"\x08" + literal(b"abcd") + copy(4, 5, 1), "a copy from before the start"),
        (b"\x08" + literal(b"abcd") + copy(4, 0, 2), "a copy from before the start"),
        (b"\x08" + literal(b"abcd") + copy(4, 260, 1), "a copy from before the start"),
        (b"\x08" + literal(b"abcd") + copy(4, 1 << 24, 4), "a copy from before the start"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.hex(),
)
def test_block_that_cannot_be_says_why(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        uncompress(data, 10)


def test_length_may_take_five_bytes_and_be_as_much_as_is_allowed() -> None:
    assert uncompress(b"\x80\x80\x80\x80\x00", 0) == b""
    assert uncompress(b"\x83\x80\x80\x80\x00" + literal(b"abc"), 3) == b"abc"
    with pytest.raises(ValueError, match=r"^268435456 bytes claimed, over the limit of 3$"):
        uncompress(b"\x80\x80\x80\x80\x01", 3)
