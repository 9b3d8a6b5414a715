"""Does a damaged index still say what it held, and never what it didn't?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.errors import SourceError
from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.damaged import (
    DamagedIndex,
    DoubtfulRun,
    header_shards,
    index_order,
    read_damaged_index,
)
from orchestrator.store.bundle.slice_keys import slice_key
from orchestrator.store.bundle.sstable import table_of, unmask
from tests.fakes.bundles import serialize, table_bytes

KEYS = [f"k{number:02d}" for number in range(14)]
HEADER = (b"", serialize("BundleHeader", num_shards=3))


def _entry(number: int, **other: Any) -> bytes:
    fields = {"dtype": 1, "shape": {"dim": [{"size": 1}]}, "size": 4, "offset": 4 * number}
    return serialize("BundleEntry", **fields | {"shard_id": number % 3} | other)


def _tensor(key: str) -> BundleTensor:
    number = KEYS.index(key)
    return BundleTensor(key, "float32", (1,), number % 3, 4 * number, 4, unmask(0))


def _tensors(*keys: str) -> dict[str, BundleTensor]:
    return {key: _tensor(key) for key in keys}


def _items(*more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """A header, 14 tensors and what comes between them: with four in a block, the keys are k00 to
    k02, k03 to k06, k07 to k10 and the last three.
    """
    tensors = [(key.encode(), _entry(number)) for number, key in enumerate(KEYS)]
    return sorted([HEADER, *tensors, *more])


INDEX = table_bytes(_items(), per_block=4)


def _with_damaged_blocks(*blocks: int) -> bytes:
    """Their entries are as they were: it's the checksum that is another."""
    data = bytearray(INDEX)
    for block in blocks:
        offset, size = table_of(INDEX, "x").block_place(block)
        data[offset + size + 1] ^= 1
    return bytes(data)


def _read(data: bytes) -> DamagedIndex:
    return read_damaged_index(data, 3, "m.index")


def _run(before: str | None, keys: Sequence[str], after: str | None) -> DoubtfulRun:
    return DoubtfulRun(before, tuple((key, _tensor(key)) for key in keys), after)


def _said_of(block: int) -> str:
    at = table_of(INDEX, "x").block_place(block)[0]
    return f"m.index fails its checksum in the block at byte {at}"


def test_good_index_says_all_with_nothing_in_doubt() -> None:
    part = serialize(
        "BundleEntry",
        dtype=1,
        shape={"dim": [{"size": 2}]},
        size=8,
        offset=90,
        shard_id=2,
        slices=[{}],  # a part has none of its own, whatever its record says
    )
    whole = _entry(0, shape={"dim": [{"size": 5}]}, size=0, slices=[{}], offset=0)
    more = ((slice_key("parts", ((1, 2),)), part), (b"parts", whole))
    read = _read(table_bytes(_items(*more), per_block=4))
    assert (read.doubtful, read.problems) == ((), ())
    assert (read.index.format, read.index.num_shards) == ("V2", 3)
    assert read.index.slice_data == (
        BundleTensor("parts", "float32", (2,), 2, 90, 8, unmask(0), extents=((1, 2),)),
    )
    parts = BundleTensor("parts", "float32", (5,), crc32c=unmask(0), slices=1)
    assert read.index.entries == {**_tensors(*KEYS), "parts": parts}


@pytest.mark.parametrize(
    ("blocks", "runs"),
    [
        ((0,), [_run(None, KEYS[:3], "k03")]),
        ((1,), [_run("k02", KEYS[3:7], "k07")]),
        ((1, 2), [_run("k02", KEYS[3:11], "k11")]),
        ((0, 2), [_run(None, KEYS[:3], "k03"), _run("k06", KEYS[7:11], "k11")]),
        ((3,), [_run("k10", KEYS[11:], None)]),
    ],
)
def test_tensors_of_damaged_blocks_are_in_doubt_between_certain_ones(
    blocks: tuple[int, ...], runs: list[DoubtfulRun]
) -> None:
    read = _read(_with_damaged_blocks(*blocks))
    assert read.doubtful == tuple(runs)
    assert read.problems == tuple(_said_of(block) for block in blocks)
    doubted = {key for run in runs for key, _ in run.records}
    assert read.index.entries == _tensors(*(key for key in KEYS if key not in doubted))


def test_record_in_doubt_that_says_nonsense_is_there_without_what_it_says() -> None:
    data = bytearray(INDEX)
    at = data.index(b"k00") + len("k00") + 1
    data[at] = 77  # its type
    (run,) = _read(bytes(data)).doubtful
    assert run.records == (("k00", None), ("k01", _tensor("k01")), ("k02", _tensor("k02")))


def test_certain_record_that_says_nonsense_is_told_and_ends_a_run() -> None:
    items = _items()
    items[4] = (b"k03", _entry(3, dtype=77))
    items[9] = (b"\xffk", b"\x08")
    data = bytearray(table_bytes(sorted(items), per_block=4))
    offset, size = table_of(bytes(data), "x").block_place(0)
    data[offset + size + 1] ^= 1
    read = _read(bytes(data))
    assert read.doubtful == (_run(None, KEYS[:3], "k03"),)
    assert read.problems[1] == "m.index: 'k03' has the unknown dtype 77"
    assert read.problems[2].startswith("m.index, key '\\udcffk' holds a damaged BundleEntry record")
    assert set(read.index.entries) == set(KEYS[4:]) - {"k08"}


def test_certain_part_that_says_nonsense_is_told() -> None:
    key = slice_key("parts", ((0, 2),))
    read = _read(table_bytes(_items((key, _entry(1, dtype=77)), (key + b"\x80", _entry(1)))))
    assert read.problems == (
        "m.index: 'parts' has the unknown dtype 77",
        "m.index has a damaged slice key",
    )
    assert read.index.slice_data == ()


def test_name_in_doubt_that_is_no_text_is_kept_as_it_is() -> None:
    data = bytearray(table_bytes([HEADER, (b"k\xff", _entry(0))]))
    offset, size = table_of(bytes(data), "x").block_place(0)
    data[offset + size + 1] ^= 1
    (run,) = _read(bytes(data)).doubtful
    assert [key for key, _ in run.records] == ["k\udcff"]


def test_header_and_parts_in_doubt_are_no_tensors() -> None:
    items = _items((slice_key("parts", ((0, 2),)), _entry(1)))
    data = bytearray(table_bytes(items, per_block=4))
    offset, size = table_of(bytes(data), "x").block_place(0)
    data[offset + size + 1] ^= 1
    read = _read(bytes(data))
    assert read.doubtful == (_run(None, KEYS[:2], "k02"),)
    assert read.index.slice_data == ()


def test_block_that_breaks_off_gives_its_entries_up_to_there() -> None:
    data = bytearray(INDEX)
    at = data.index(_entry(5)) - 4  # how much of its key it shares with the one before
    data[at] = 100
    assert _read(bytes(data)).doubtful == (_run("k02", KEYS[3:5], "k07"),)


@pytest.mark.parametrize("lost", [1, 48, 60])
def test_index_without_its_end_is_read_block_by_block_and_tells_of_that_alone(lost: int) -> None:
    """Of its own index, which is a block as the others are, nothing is taken for a tensor."""
    read = _read(INDEX[:-lost])
    assert (set(read.index.entries), read.doubtful) == (set(KEYS), ())
    assert read.problems == (
        "m.index doesn't end in a table's footer: truncated, or not a checkpoint index",
    )


def test_index_that_ends_within_a_block_gives_the_rest_of_it_in_doubt() -> None:
    offset, size = table_of(INDEX, "x").block_place(2)
    for end in (offset + size, offset + size + 4):  # the second lacks one byte of the checksum
        read = _read(INDEX[:end])
        assert read.index.entries == _tensors(*KEYS[:7])
        assert [run.before for run in read.doubtful] == ["k06"]
        assert read.doubtful[0].records[:4] == _run("k06", KEYS[7:11], None).records
    assert _read(INDEX[: offset + size + 5]).index.entries == _tensors(*KEYS[:11])
    within = INDEX.index(_entry(9)) + 4
    assert _read(INDEX[:within]).doubtful == (_run("k06", KEYS[7:9], None),)
    assert _read(INDEX[:offset]).doubtful == ()


def test_damaged_block_before_a_lost_end_leaves_all_behind_it_in_doubt() -> None:
    read = _read(_with_damaged_blocks(1)[:-1])
    assert read.index.entries == _tensors(*KEYS[:3])
    assert read.doubtful[0].before == "k02"
    assert read.doubtful[0].records[:4] == _run("k02", KEYS[3:7], None).records


def test_pointer_of_git_lfs_is_no_damaged_index() -> None:
    with pytest.raises(SourceError, match=r"m\.index is a Git LFS pointer"):
        _read(b"version https://git-lfs.github.com/spec/v1\n")


def test_nothing_at_all_says_nothing() -> None:
    read = _read(b"")
    assert (read.index.entries, read.doubtful) == ({}, ())
    assert read.problems == ("m.index is empty: not a checkpoint index",)


@pytest.mark.parametrize(
    ("run", "expected", "vouched"),
    [
        (_run(None, ["k00", "k01"], "k02"), KEYS, ["k00", "k01"]),
        (_run("k02", ["k03", "k04"], "k05"), KEYS, ["k03", "k04"]),
        # a key in between that isn't the expected one: up to there from either side
        (_run("k02", ["k03", "k09", "k05"], "k06"), KEYS, ["k03", "k05"]),
        (_run("k02", ["k03", "k09", "k05"], None), KEYS, ["k03"]),
        (_run("gone", ["k03", "k09", "k05"], "k06"), KEYS, ["k05"]),
        (_run("gone", ["k03", "k04", "k05"], "k06"), KEYS, ["k03", "k04", "k05"]),
        (_run("gone", ["k03"], "gone too"), KEYS, []),
        (_run("gone", ["k03"], None), KEYS, []),
        (_run("k12", ["k13"], None), KEYS, ["k13"]),
        # more records than keys are expected there
        (_run("k12", ["k13", "k00"], None), KEYS, ["k13"]),
        (_run(None, ["k13", "k00"], "k01"), KEYS, ["k00"]),
        (_run(None, ["k01"], "k03"), KEYS, []),
        (_run(None, [], "k00"), KEYS, []),
        (_run(None, ["k00"], None), [], []),
    ],
)
def test_graph_vouches_for_records_that_follow_certain_ones_as_it_expects(
    run: DoubtfulRun, expected: list[str], vouched: list[str]
) -> None:
    assert run.vouched(expected) == _tensors(*vouched)


def test_record_without_a_meaning_is_passed_and_those_behind_it_are_vouched_for() -> None:
    run = DoubtfulRun("k02", (("k03", None), ("k04", _tensor("k04"))))
    assert run.vouched(KEYS) == _tensors("k04")


def test_keys_are_expected_in_the_order_of_their_bytes() -> None:
    assert index_order(["\U0001f600", "\ufffd", "a", "\udcff", "B"]) == [
        *("B", "a", "\ufffd", "\U0001f600", "\udcff")
    ]


@pytest.mark.parametrize(
    ("items", "shards"),
    [
        ([HEADER], 3),
        ([(b"", serialize("BundleHeader", num_shards=1))], 1),
        ([(b"", serialize("BundleHeader", num_shards=100_000))], 100_000),
        ([(b"", serialize("BundleHeader", num_shards=100_001))], None),
        ([(b"", serialize("BundleHeader", num_shards=0))], None),
        ([(b"", b"\x08")], None),
        ([(b"k00", _entry(0))], None),
    ],
)
def test_header_tells_how_many_data_files_there_are(
    items: list[tuple[bytes, bytes]], shards: int | None
) -> None:
    assert header_shards(table_bytes(items), "m.index") == shards


def test_header_in_doubt_is_asked_too() -> None:
    assert header_shards(_with_damaged_blocks(0), "m.index") == 3
    assert header_shards(INDEX[:-1], "m.index") == 3
