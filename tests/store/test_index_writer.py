"""Which index do the reports of several ranks make, and which of them make none?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import OutputError
from orchestrator.store.bundle.bundle import BundleTensor, read_index
from orchestrator.store.bundle.data_writer import DataReport
from orchestrator.store.bundle.index_writer import index_bytes, write_index
from tests.store.test_data_writer import piece


def report(
    shard: int, shards: int, *pieces: BundleTensor, shape: tuple[int, ...] = (4,)
) -> DataReport:
    """Of a rank that holds a part of 'emb' of that shape, where one is among the pieces."""
    shapes = {"emb": shape} if any(one.extents for one in pieces) else {}
    return DataReport(shard, shards, pieces, shapes)


def rows(start: int, size: int, **fields: Any) -> BundleTensor:
    return piece("emb", (size,), b"x" * size, extents=((start, size),), **fields)


FIRST, SECOND = rows(0, 2), rows(2, 2, shard=1)


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        ([], "data files [] are there"),
        ([report(0, 2)], "data files [0] are there"),
        ([report(1, 2)], "data files [1] are there"),
        ([report(0, 3), report(2, 3)], "data files [0, 2] are there"),
        ([report(1, 2), report(0, 2), report(0, 2)], "data files [0, 0, 1] are there"),
        ([report(0, 2), report(1, 3)], "ranks were told different numbers of data files"),
        (
            [report(0, 2, piece("w", (1,), b"a")), report(1, 2, piece("w", (1,), b"a"))],
            "'w' was written by two ranks",
        ),
        (
            [report(0, 2, piece("emb", (4,), b"abcd")), report(1, 2, SECOND)],
            "'emb' was written whole by one rank and in parts by others",
        ),
        (
            [report(0, 2, FIRST), report(1, 2, SECOND, shape=(5,))],
            "ranks hold 'emb' as ['int8'] of [(4,), (5,)]",
        ),
        (
            [
                report(0, 2, FIRST),
                report(1, 2, BundleTensor("emb", "uint8", (2,), extents=((2, 2),))),
            ],
            "ranks hold 'emb' as ['int8', 'uint8'] of [(4,)]",
        ),
        ([report(0, 1, FIRST)], "'emb': parts hold 2 of 4 elements"),
    ],
)
def test_reports_that_are_not_of_one_checkpoint_are_refused(
    reports: list[DataReport], said: str
) -> None:
    with pytest.raises(OutputError) as refused:
        index_bytes(reports)
    assert refused.value.message == f"what the ranks wrote isn't one checkpoint: {said}"
    assert refused.value.remedy == "It isn't committed; the next save tries again"


def test_index_over_all_files_says_where_everything_lies() -> None:
    empty = piece("none", (0, 2), b"")
    odd = piece("odd\udcff", (1,), b"o", shard=1, offset=2)
    unknown = BundleTensor("old", "int8", (1,), size_bytes=1)
    reports = [report(1, 2, SECOND, empty, odd), report(0, 2, FIRST, empty, unknown)]
    index = read_index(index_bytes(reports))
    assert index.num_shards == 2
    assert index.slice_data == (FIRST, SECOND)
    assert index.entries.keys() == {"emb", "none", "odd\udcff", "old"}
    assert index.entries["odd\udcff"] == odd
    assert index.entries["none"] == empty
    assert index.entries["old"].crc32c == 0
    assert (index.entries["emb"].shape, index.entries["emb"].slices) == ((4,), 2)


def test_index_is_written_beside_the_data_files_of_its_prefix(tmp_path: Path) -> None:
    path = write_index(tmp_path / "m.of-5", [report(0, 1)])
    assert path == tmp_path / "m.of-5.index"
    assert path.read_bytes() == index_bytes([report(0, 1)])
