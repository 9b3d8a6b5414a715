"""Does a rank get its rows of any checkpoint, and nothing else of it?"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint, GraphMismatch, OutputError
from orchestrator.store.bundle.bundle import BundleIndex, read_index
from orchestrator.store.bundle.data_writer import DataWriter
from orchestrator.store.bundle.index_writer import index_bytes, write_index
from orchestrator.store.bundle.joint_crc import PartRead, combined, joint_problems
from orchestrator.store.bundle.row_reader import RowReader
from orchestrator.store.bundle.slice_keys import slice_key, slice_of
from orchestrator.store.bundle.values import Values
from orchestrator.store.objects.location import FileInfo
from orchestrator.store.transfer.some_tensors import fetch_tensors
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import write_checkpoint
from tests.servers.object_stores import HttpStore
from tests.store.slices import (
    add_rows,
    joined,
    listed,
    local,
    put_sliced,
    shares,
    table,
    write_sliced,
)

EMB = table(5000, 16)
HEAD_BYTES = 2000
"""Of an answer over HTTP at most."""


def take(
    index: BundleIndex, files: list[FileInfo], key: str, start: int, stop: int
) -> tuple[np.ndarray, list[PartRead]]:
    """Rows of a table of float32, and what was read of pieces in part."""
    array = np.empty((stop - start, *index.entries[key].shape[1:]), np.float32)
    memory = array.reshape(-1).view(np.uint8).data
    return array, RowReader(index, files).read(key, start, stop, memory)


def columns_and_rows(directory: Path) -> None:
    """A table in four blocks, of two parts of columns by two ranks."""
    reports = []
    for rank in range(2):
        with DataWriter(directory / "m", rank, 2) as writer:
            for column, width in ((0, 7), (7, 9)):
                extents = ((2500 * rank, 2500), (column, width))
                block = EMB[2500 * rank : 2500 * rank + 2500, column : column + width]
                writer.add_part("emb", "float32", EMB.shape, extents, [block.tobytes()])
            reports.append(writer.close())
    write_index(directory / "m", reports)


@pytest.mark.parametrize("layout", ["whole", "by 3", "by 7", "grid"])
@pytest.mark.parametrize("readers", [1, 2, 5])
def test_rows_of_any_layout_are_the_tables_and_check_together(
    tmp_path: Path, layout: str, readers: int
) -> None:
    if layout == "grid":
        columns_and_rows(tmp_path)
    elif layout == "whole":
        write_checkpoint(tmp_path, "m", {"emb": EMB, "b": np.float32(1)})
    else:
        write_sliced(tmp_path, "m", int(layout[3:]), {"emb": EMB}, {"b": np.float32(1)})
    index, files = local(tmp_path, "m")
    assert joined(list(Values(index, files).chunks("emb"))) == EMB.tobytes()
    reads = []
    for start, stop in shares(len(EMB), readers):
        array, parts = take(index, files, "emb", start, stop)
        assert array.tobytes() == EMB[start:stop].tobytes()
        reads += parts
    assert joint_problems([*reads, *reads]) == []  # each twice, as with two copies of a shard
    if readers == 1:
        assert not reads  # all was checked at once


def test_part_that_two_readers_have_read_otherwise_fails_whoever_read_the_damage(
    tmp_path: Path,
) -> None:
    write_sliced(tmp_path, "m", 1, {"emb": EMB}, {})
    index, files = local(tmp_path, "m")
    reads = [part for rows in shares(len(EMB), 2) for part in take(index, files, "emb", *rows)[1]]
    first = reads[0]
    other = replace(first, crc32c=first.crc32c ^ 1)

    assert joint_problems([*reads, first]) == []
    for both in ([*reads, other], [other, *reads]):
        (problem,) = joint_problems(both)
        assert "fails its checksum" in problem
        assert "two have read others" in problem


def test_rows_over_http_move_their_own_bytes_only(http_store: HttpStore) -> None:
    tables = {"emb": EMB, "emb/Adam": EMB + 1}
    index, files = put_sliced(http_store.root, "m", 3, tables, {"global_step": np.int64(3)})
    reads = []
    for start, stop in shares(len(EMB), 4):
        for key, expected in tables.items():
            before, asked = http_store.proxy.answered_bytes, len(http_store.proxy.requests)
            array, parts = take(index, files, key, start, stop)
            moved = http_store.proxy.answered_bytes - before
            requests = len(http_store.proxy.requests) - asked
            assert array.tobytes() == expected[start:stop].tobytes()
            assert array.nbytes <= moved <= array.nbytes + requests * HEAD_BYTES
            assert requests <= 2
            reads += parts
    assert len(reads) >= 8
    assert joint_problems(reads) == []


def test_rows_of_one_whole_file_over_http_move_their_own_bytes_only(
    http_store: HttpStore, tmp_path: Path
) -> None:
    """The source of most runs: all in one file, which no node shall read whole."""
    upload(write_checkpoint(tmp_path, "m", {"emb": EMB, "z": table(2000, 16)}), http_store.root)
    index, files = listed(http_store.root, "m")
    before = http_store.proxy.answered_bytes
    array, parts = take(index, files, "emb", 1000, 1100)
    assert array.tobytes() == EMB[1000:1100].tobytes()
    assert http_store.proxy.answered_bytes - before <= array.nbytes + HEAD_BYTES
    assert [(part.start, part.end) for part in parts] == [(64000, 70400)]


@pytest.mark.parametrize("ranks", [1, 3])
def test_rows_with_any_bit_turned_over_are_found_by_the_readers_together(
    tmp_path: Path, ranks: int
) -> None:
    write_sliced(tmp_path, "m", ranks, {"emb": EMB}, {})
    index, files = local(tmp_path, "m")
    choose, found_alone, found_together = random.Random(5), 0, 0
    for _ in range(30):
        piece = choose.choice(index.pieces)
        path = Path(files[1 + piece.shard].location.path)
        good = path.read_bytes()
        damaged = bytearray(good)
        damaged[piece.offset + choose.randrange(piece.size_bytes)] ^= 1 << choose.randrange(8)
        path.write_bytes(damaged)
        try:
            reads = [
                part
                for start, stop in shares(len(EMB), 2)
                for part in take(index, files, "emb", start, stop)[1]
            ]
        except CorruptCheckpoint as error:
            found_alone += "'emb' fails its checksum" in error.message
        else:
            assert joint_problems(reads) == [f"{path}: tensor 'emb' fails its checksum"]
            found_together += 1
        path.write_bytes(good)
    assert (found_alone + found_together, found_together > 0) == (30, True)
    assert ranks == 1 or found_alone


def test_rows_that_nobody_read_are_told_of(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "m", {"emb": EMB})
    index, files = local(tmp_path, "m")
    _, first = take(index, files, "emb", 0, 100)
    _, later = take(index, files, "emb", 200, 5000)
    file = files[1].location.shown
    assert joint_problems([*first, *later]) == [
        f"{file}: tensor 'emb' can't be checked: bytes 6400 to 12800 were read by nobody"
    ]
    assert joint_problems(first) == [
        f"{file}: tensor 'emb' can't be checked: bytes 6400 to 320000 were read by nobody"
    ]
    _, overlapping = take(index, files, "emb", 50, 5000)
    assert "don't meet" in joint_problems([*first, *overlapping])[0]


def test_rows_that_a_checkpoint_lacks_are_refused(tmp_path: Path) -> None:
    write_sliced(tmp_path, "m", 2, {"emb": EMB}, {"words": [b"a"], "step": np.int64(1)})
    index, files = local(tmp_path, "m")
    for key, start, stop in (("emb", 4999, 5001), ("words", 0, 1), ("step", 0, 1), ("gone", 0, 1)):
        with pytest.raises(GraphMismatch, match=repr(key)):
            RowReader(index, files).read(key, start, stop, memoryview(bytearray(64)))


def test_checksums_put_together_are_those_of_all_bytes() -> None:
    choose = random.Random(1)
    for _ in range(200):
        one = choose.randbytes(choose.randrange(300))
        other = choose.randbytes(choose.choice([0, 1, 7, 4096, choose.randrange(70000)]))
        together = combined(google_crc32c.value(one), google_crc32c.value(other), len(other))
        assert together == google_crc32c.value(one + other)
    # across what no machine of a test holds: a thousand times a gigabyte of zeros
    crc = 123
    for _ in range(3):
        crc = combined(crc, 0, 1 << 30)
    assert crc == combined(123, 0, 3 << 30)


def test_keys_of_slices_are_read_as_they_were_written() -> None:
    choose = random.Random(2)
    for _ in range(3000):
        name = choose.choice(["emb", "a\0b", "ü", "\udcff", "part_0"])
        extents = tuple(
            (
                choose.getrandbits(choose.randrange(1, 63)),
                choose.getrandbits(choose.randrange(1, 63)),
            )
            for _ in range(choose.randrange(4))
        )
        assert slice_of(slice_key(name, extents), "the index") == (name, extents)


def test_ranks_that_wrote_no_one_checkpoint_are_refused_by_name(tmp_path: Path) -> None:
    def rank(number: int, of: int, *rows: tuple[int, int], key: str = "emb") -> DataWriter:
        writer = DataWriter(tmp_path / "m", number, of)
        for start, stop in rows:
            add_rows(writer, key, "float32", EMB.shape, start, stop, [EMB[start:stop].tobytes()])
        return writer

    cases = {
        "data files [0, 2]": [rank(0, 3, (0, 10)), rank(2, 3, (10, 5000))],
        "parts hold": [rank(0, 2, (0, 10)), rank(1, 2, (11, 5000))],
        "the same elements": [rank(0, 2, (0, 11)), rank(1, 2, (10, 5000))],
        "written by two ranks": [rank(0, 2, (0, 5000)), rank(1, 2, (0, 5000))],
        "whole by one rank": [rank(0, 2, (0, 5000)), rank(1, 2, (0, 10))],
        "different numbers": [rank(0, 2, (0, 10)), rank(1, 3, (10, 5000))],
        "data files []": [],
    }
    for words, writers in cases.items():
        reports = [writer.close() for writer in writers]
        with pytest.raises(OutputError) as raised:
            index_bytes(reports)
        assert words in raised.value.message, raised.value.message


def test_part_of_a_type_that_tensorflow_restores_no_parts_of_is_refused(tmp_path: Path) -> None:
    with DataWriter(tmp_path / "m", 0, 2) as writer:
        add_rows(writer, "whole", "float16", (4, 2), 0, 4, [bytes(16)])
        with pytest.raises(OutputError, match="'t' is float16"):
            add_rows(writer, "t", "float16", (4, 2), 0, 2, [bytes(8)])
        with pytest.raises(OutputError, match="takes 16 bytes and was given 8"):
            add_rows(writer, "short", "float32", (4, 2), 0, 2, [bytes(8)])


def test_some_tensors_come_without_the_others(http_store: HttpStore, tmp_path: Path) -> None:
    whole: dict[str, Any] = {f"w{number}": table(3, number + 1, number) for number in range(40)}
    whole |= {"words": [b"a", b"two"], "global_step": np.int64(3)}
    put_sliced(http_store.root, "m", 3, {"emb": EMB, "small": table(9, 2)}, whole)
    index, files = listed(http_store.root, "m")
    keys = {*whole, "small"}
    before, asked = http_store.proxy.answered_bytes, len(http_store.proxy.requests)
    fetch_tensors(index, files, keys, tmp_path / "m")
    small = sum(piece.size_bytes for piece in index.pieces if piece.key in keys)
    requests = len(http_store.proxy.requests) - asked
    assert http_store.proxy.answered_bytes - before <= small + requests * HEAD_BYTES
    assert requests <= 6
    copy, copied = local(tmp_path, "m")
    assert set(copy.entries) == keys
    values, theirs = Values(copy, copied), Values(index, files)
    for key in keys:
        if key == "words":
            assert values.strings(key) == [b"a", b"two"]
        else:
            assert joined(list(values.chunks(key))) == joined(list(theirs.chunks(key)))
    assert read_index((tmp_path / "m.index").read_bytes()).entries["small"].slices == 3
