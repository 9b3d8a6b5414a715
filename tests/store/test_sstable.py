"""Is a sorted table read to its last entry, and does one that can't be say what is wrong with it?"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import google_crc32c
import pytest

from orchestrator.errors import CorruptCheckpoint, SourceError
from orchestrator.store.bundle.sstable import (
    FOOTER_BYTES,
    MAGIC,
    MAX_BLOCK_BYTES,
    Table,
    block_entries,
    mask,
    read_varint,
    table_of,
)
from orchestrator.store.bundle.table_writer import table_bytes, varint

ITEMS = [(b"X%02d" % number, b"value %d" % number) for number in range(40)]
COPY = "Use another checkpoint, or copy this one again"


def told(data: bytes) -> str:
    """What's wrong with a table, behind its name."""
    with pytest.raises(CorruptCheckpoint) as refused:
        list(table_of(data, "m.index").items())
    assert refused.value.remedy == COPY
    assert refused.value.details == {"file": "m.index"}
    assert refused.value.message.startswith("m.index ")
    return refused.value.message.removeprefix("m.index ")


def stored(content: bytes, kind: int = 0) -> bytes:
    """A block as it lies in a file."""
    content += bytes([kind])
    return content + struct.pack("<I", mask(google_crc32c.value(content)))


def block(*entries: bytes) -> bytes:
    """Entries with one restart point, none of a key before them."""
    return b"".join(entries) + struct.pack("<2I", 0, 1)


def table(content: bytes, kind: int = 0, handle: bytes | None = None) -> bytes:
    """A table of one block."""
    handle = varint(0) + varint(len(content)) if handle is None else handle
    index = block(b"\0\1" + varint(len(handle)) + b"z" + handle)
    out = stored(content, kind) + stored(index)
    footer = b"\0\0" + varint(len(content) + 5) + varint(len(index))
    return out + footer.ljust(FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", MAGIC)


def test_table_holds_each_entry_in_its_block_and_says_where_that_lies() -> None:
    data = table_bytes(ITEMS, block_bytes=100)
    found = table_of(data, "t")
    assert found.block_count > 3
    assert list(found.items()) == ITEMS
    ends = [sum(found.block_place(number)) + 5 for number in range(found.block_count)]
    starts = [found.block_place(number)[0] for number in range(found.block_count)]
    assert starts == [0, *ends[:-1]]
    by_block = [list(found.block_items(number)) for number in range(found.block_count)]
    assert [item for items in by_block for item in items] == ITEMS
    assert all(by_block)


@pytest.mark.parametrize("block_bytes", [1, 100, 10_000])
@pytest.mark.parametrize("prefix", [b"", b"X", b"X1", b"X17", b"X39", b"X4", b"0", b"b"])
def test_entries_of_a_prefix_are_found_in_the_blocks_that_may_hold_them(
    prefix: bytes, block_bytes: int
) -> None:
    data, reads = table_bytes(ITEMS, block_bytes), list[int]()

    def read(start: int, end: int) -> bytes:
        reads.append(start)
        return data[start:end]

    found = Table(read, len(data), "t")
    reads.clear()
    expected = [item for item in ITEMS if item[0].startswith(prefix)]
    assert list(found.items_with(prefix)) == expected
    blocks = [{key for key, _ in found.block_items(number)} for number in range(found.block_count)]
    holding = sum(bool(keys & {key for key, _ in expected}) for keys in blocks)
    assert len(reads) - len(blocks) <= holding + 2, "one before them at most, and one behind them"


def test_keys_of_which_each_begins_with_the_one_before_are_found() -> None:
    items = [(b"k" * length, b"%d" % length) for length in range(1, 9)]
    found = table_of(table_bytes(items, block_bytes=1), "t")
    assert found.block_count == len(items)
    assert list(found.items_with(b"kkk")) == items[2:]


def test_number_of_up_to_64_bits_is_read_and_a_longer_one_is_none() -> None:
    for value in (0, 1, 127, 128, 300, 2**32, 2**63, 2**64 - 1):
        assert read_varint(b"?" + varint(value) + b"!", 1) == (value, 1 + len(varint(value)))
    with pytest.raises(ValueError, match=r"^a number of more than 64 bits$"):
        read_varint(b"\xff" * 10 + b"\x01", 0)
    with pytest.raises(IndexError):
        read_varint(b"\xff\xff", 0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty: not a checkpoint index"),
        (b"x", "has only 1 bytes: not a checkpoint index"),
        (b"x" * 47, "has only 47 bytes: not a checkpoint index"),
        (
            b"x" * 48,
            "doesn't end in a table's footer: truncated, or not a checkpoint index",
        ),
        (b"\xff" * 40 + struct.pack("<Q", MAGIC), "has a damaged footer"),
        (table(block(), handle=b""), "has a damaged block handle"),
        (table(block(), handle=b"\xff" * 11), "has a damaged block handle"),
        (
            table(b"", handle=varint(7) + varint(1000)),
            "names a block of 1000 bytes at 7, beyond its own 73 bytes",
        ),
        (
            table(block())[:3] + b"?" + table(block())[4:],
            "fails its checksum in the block at byte 0",
        ),
        (table(block(), kind=2), "has a block of unknown kind 2 at byte 0"),
        (
            table(b"\xff" * 9, kind=1),
            "has a damaged compressed block (no length)",
        ),
        (
            table(varint(MAX_BLOCK_BYTES + 1), kind=1),
            "has a damaged compressed block (1073741825 bytes claimed, over the limit of 1073741824)",
        ),
        (
            table(struct.pack("<I", 1)),
            "has a block with damaged entries (more restart points than bytes)",
        ),
        (
            table(struct.pack("<I", 2**31)),
            "has a block with damaged entries (more restart points than bytes)",
        ),
        (
            table(b"123"),
            "has a block with damaged entries (unpack requires a buffer of 4 bytes)",
        ),
        (
            table(block(b"\0\1\1k")),
            "has a block with damaged entries (an entry beyond its block)",
        ),
        (
            table(block(b"\0\2\0k")),
            "has a block with damaged entries (an entry beyond its block)",
        ),
        (
            table(block(b"\1\1\0k")),
            "has a block with damaged entries (an entry beyond its block)",
        ),
        (
            table(block(b"\0\1\0k", b"\2\1\0z")),
            "has a block with damaged entries (an entry beyond its block)",
        ),
        (
            table(block(b"\xff" * 11)),
            "has a block with damaged entries (a number of more than 64 bits)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_table_that_cannot_be_read_says_what_is_wrong(data: bytes, said: str) -> None:
    assert told(data) == said


def test_blocks_entries_may_fill_it_and_repeat_the_whole_key_before() -> None:
    entries = block(b"\0\1\2kvv", b"\1\0\0", b"\1\1\1l!")
    expected = [(b"k", b"vv"), (b"k", b""), (b"kl", b"!")]
    assert list(table_of(table(entries), "t").items()) == expected
    assert list(block_entries(entries[:-8], len(entries) - 8)) == expected
    assert list(block_entries(entries, 6)) == expected[:1]
    assert list(block_entries(struct.pack("<I", 0))) == []


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (MAX_BLOCK_BYTES, "ended at byte 3 of 1073742008 while it was read"),
        (
            MAX_BLOCK_BYTES + 1,
            "names a block of 1073741825 bytes at 0, beyond its own 1073742008 bytes",
        ),
    ],
)
def test_block_of_a_gibibyte_is_asked_for_and_none_beyond(size: int, said: str) -> None:
    """Nothing is read, and no memory taken, for what can only be damage."""
    footer = (b"\0\0\0" + varint(size)).ljust(FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", MAGIC)
    length = MAX_BLOCK_BYTES + 184

    def read(start: int, end: int) -> bytes:
        return footer if start else b"abc"

    with pytest.raises(CorruptCheckpoint) as refused:
        Table(read, length, "t")
    assert refused.value.message == f"t {said}"


@pytest.mark.parametrize(("offset", "reads"), [(75, 2), (76, 1)])
def test_block_may_end_where_the_file_ends_and_not_behind_it(offset: int, reads: int) -> None:
    footer = (b"\0\0" + varint(offset) + b"\x14").ljust(FOOTER_BYTES - 8, b"\0")
    data = bytes(52) + footer + struct.pack("<Q", MAGIC)
    asked: list[tuple[int, int]] = []

    def read(start: int, end: int) -> bytes:
        asked.append((start, end))
        return data[start:end]

    with pytest.raises(CorruptCheckpoint):
        Table(read, len(data), "t")
    assert asked == [(52, 100), (75, 100)][:reads]


def test_file_that_became_shorter_while_it_was_read_is_damage() -> None:
    data = table_bytes(ITEMS)

    for read in (lambda start, end: data[start:end][1:], lambda start, end: data[start:end][:-1]):
        with pytest.raises(CorruptCheckpoint, match="t doesn't end in a table's footer"):
            Table(read, len(data), "t")
    found = Table(lambda start, end: data[start:end][: 40 if start == 0 else None], len(data), "t")
    with pytest.raises(CorruptCheckpoint, match=rf"ended at byte 40 of {len(data)} while it was"):
        list(found.items())


def test_pointer_of_git_lfs_is_no_damage_and_says_how_to_get_the_file() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    with pytest.raises(SourceError) as refused:
        table_of(pointer, "m.index")
    assert refused.value.message == "m.index is a Git LFS pointer, not the file itself"
    assert refused.value.remedy == "Fetch the files with `git lfs pull`"


def blocks_of(items: Sequence[tuple[bytes, bytes]], block_bytes: int) -> int:
    return table_of(table_bytes(items, block_bytes), "t").block_count


def test_block_ends_once_it_has_reached_its_size() -> None:
    items = [(b"a", b""), (b"b", b""), (b"c", b"")]
    of_two = 2 * len(b"\0\1\0k") + 8
    assert blocks_of(items, of_two) == 2
    assert blocks_of(items, of_two + 1) == 1
    assert blocks_of(items, of_two - 4) == 3
    assert blocks_of([], 1) == 0
