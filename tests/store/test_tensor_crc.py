"""Is a tensor taken for what was saved only where its bytes are, and is it said what they lack?"""

from __future__ import annotations

import struct

import google_crc32c
import pytest

from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.packed_strings import packed_strings
from orchestrator.store.bundle.sstable import mask
from orchestrator.store.bundle.table_writer import varint
from orchestrator.store.bundle.tensor_crc import RunningCrc, string_values, tensor_problem

TEXTS = [b"", b"one", "zwei ü".encode(), b"x" * 300]


def strings(texts: list[bytes], count: int | None = None) -> tuple[BundleTensor, bytes]:
    """A string tensor, and its bytes."""
    pieces, crc = packed_strings(texts)
    data = b"".join(pieces)
    shape = (len(texts) if count is None else count,)
    return BundleTensor("s", "string", shape, size_bytes=len(data), crc32c=crc), data


def damaged(data: bytes) -> tuple[BundleTensor, bytes]:
    """What is said to be a tensor of one string."""
    return BundleTensor("s", "string", (1,), size_bytes=len(data), crc32c=1), data


def claimed(length: int, counted: bytes) -> tuple[BundleTensor, bytes]:
    """A string tensor whose only text is said to have that length and isn't there."""
    check = struct.pack("<I", mask(google_crc32c.value(counted)))
    data = varint(length) + check
    crc = google_crc32c.value(counted + check)
    return BundleTensor("s", "string", (1,), size_bytes=len(data), crc32c=crc), data


def test_strings_are_what_was_packed() -> None:
    for texts in (TEXTS, TEXTS[:1], []):
        tensor, data = strings(texts)
        assert tensor_problem(tensor, data) == ""
        assert string_values(tensor, data) == texts


@pytest.mark.parametrize(
    ("tensor", "data", "problem"),
    [
        (*strings(TEXTS, 5), "fails the checksum of its strings' lengths"),
        (*strings(TEXTS, 3), "fails the checksum of its strings' lengths"),
        (*strings([], 9), "has damaged string lengths"),
        (*damaged(b"\xff" * 11), "has damaged string lengths"),
        (*damaged(b"\x03abc"), "has damaged string lengths"),
        (*damaged(b"\xff" * 9 + b"\x02...."), "has damaged string lengths"),
        (
            *claimed(2**32 - 1, struct.pack("<I", 2**32 - 1)),
            f"holds 0 bytes of text where {2**32 - 1} are due",
        ),
        # TensorFlow counts the length of a text of 4 GiB in 8 bytes
        (
            *claimed(2**32, struct.pack("<Q", 2**32)),
            f"holds 0 bytes of text where {2**32} are due",
        ),
        (
            *claimed(2**64 - 1, struct.pack("<Q", 2**64 - 1)),
            f"holds 0 bytes of text where {2**64 - 1} are due",
        ),
        (*claimed(0, struct.pack("<I", 0)), ""),
    ],
)
def test_strings_that_are_not_what_was_saved_say_what_is_amiss(
    tensor: BundleTensor, data: bytes, problem: str
) -> None:
    assert tensor_problem(tensor, data) == problem


def test_text_of_which_a_byte_is_missing_or_another_is_told() -> None:
    tensor, data = strings(TEXTS)
    shorter = BundleTensor(
        "s", "string", (4,), size_bytes=tensor.size_bytes - 1, crc32c=tensor.crc32c
    )
    due = sum(map(len, TEXTS))
    assert tensor_problem(shorter, data[:-1]) == (
        f"holds {due - 1} bytes of text where {due} are due"
    )
    assert tensor_problem(tensor, data[:-1] + b"y") == "fails its checksum"
    assert tensor_problem(tensor, data[:-1]) == f"ends after {len(data) - 1} of {len(data)} bytes"


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (BundleTensor("w", "int8", (4,), size_bytes=4, crc32c=1), "fails its checksum"),
        (BundleTensor("w", "int8", (4,), size_bytes=4, crc32c=google_crc32c.value(b"data")), ""),
        (BundleTensor("w", "int8", (4,), size_bytes=4), ""),
        (BundleTensor("w", "variant", (4,), size_bytes=4, crc32c=1), ""),
        (BundleTensor("w", "resource", (4,), size_bytes=4, crc32c=1), ""),
    ],
)
def test_numbers_are_compared_with_their_checksum_where_there_is_one_that_covers_them(
    tensor: BundleTensor, problem: str
) -> None:
    assert tensor_problem(tensor, b"data") == problem
    assert "ends after 3 of 4 bytes" in tensor_problem(tensor, b"dat")
    running = RunningCrc(tensor)
    for piece in (b"d", b"", b"ata"):
        running.add(piece)
    assert running.problem() == problem


def test_partitioned_tensor_has_no_bytes_of_its_own_to_compare() -> None:
    assert tensor_problem(BundleTensor("w", "int8", (4,), crc32c=1, slices=2), b"") == ""
