"""Is it told of each piece that several have read whether it's whole, once, and what was saved?"""

from __future__ import annotations

import google_crc32c
import pytest

from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.joint_crc import PartRead, joint_problems

CONTENT = bytes(range(100))
PIECE = BundleTensor("emb", "uint8", (100,), 0, 700, 100, google_crc32c.value(CONTENT))


def part(start: int, end: int, piece: BundleTensor = PIECE, file: str = "m.data") -> PartRead:
    """What somebody has read of a piece that holds ``CONTENT``."""
    return PartRead(file, piece, start, end, google_crc32c.value(CONTENT[start:end]))


def spoilt(start: int, end: int) -> PartRead:
    return PartRead("m.data", PIECE, start, end, 5)


@pytest.mark.parametrize(
    ("reads", "problem"),
    [
        ([part(0, 100)], ""),
        ([part(40, 70), part(0, 40), part(70, 100)], ""),
        ([part(0, 100), part(0, 40), part(20, 40), part(99, 100)], ""),
        ([part(0, 40), part(40, 100), part(0, 100)], ""),
        ([part(0, 40), part(0, 40), part(40, 100), part(50, 100)], ""),
        ([part(0, 99)], "can't be checked: bytes 99 to 100 were read by nobody"),
        ([part(1, 100)], "can't be checked: bytes 0 to 1 were read by nobody"),
        ([part(0, 40), part(42, 100)], "can't be checked: bytes 40 to 42 were read by nobody"),
        (
            [part(0, 40), part(38, 100)],
            "can't be checked: bytes 38 to 40 were read in parts that don't meet",
        ),
        (
            [part(0, 100), part(30, 41), spoilt(30, 41)],
            "fails its checksum: of bytes 30 to 41 two have read others",
        ),
        ([part(0, 40), spoilt(40, 100)], "fails its checksum"),
        ([spoilt(0, 100)], "fails its checksum"),
    ],
)
def test_piece_that_was_read_in_parts_is_good_only_where_they_make_what_was_saved(
    reads: list[PartRead], problem: str
) -> None:
    expected = [f"m.data: tensor 'emb' {problem}"] if problem else []
    assert joint_problems(reads) == expected


def test_piece_whose_checksum_nobody_knows_has_only_to_be_whole() -> None:
    unknown = BundleTensor("old", "uint8", (100,), size_bytes=100)
    assert joint_problems([part(0, 50, unknown), part(50, 100, unknown)]) == []
    assert "by nobody" in joint_problems([part(0, 50, unknown)])[0]


def test_pieces_are_told_of_by_file_and_place_and_the_good_ones_not_at_all() -> None:
    later = BundleTensor("a", "uint8", (100,), 0, 900, 100, PIECE.crc32c)
    none = BundleTensor("none", "uint8", (0,), 0, 700, 0, 0)
    good = BundleTensor("good", "uint8", (100,), 0, 800, 100, PIECE.crc32c)
    reads = [
        part(0, 5, PIECE, "n.data"),
        part(0, 10, later),
        part(0, 100, good),
        part(0, 0, none),
        part(0, 20),
    ]
    assert joint_problems(reads) == [
        "m.data: tensor 'emb' can't be checked: bytes 20 to 100 were read by nobody",
        "m.data: tensor 'a' can't be checked: bytes 10 to 100 were read by nobody",
        "n.data: tensor 'emb' can't be checked: bytes 5 to 100 were read by nobody",
    ]
    assert joint_problems([]) == []
