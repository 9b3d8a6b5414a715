"""Is an index read to what it may just hold, and does one that can't be say what is wrong with it?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.graph.variables.checkpoint_keys import CheckpointTensor
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor, read_index
from orchestrator.store.bundle.protos import serialized
from orchestrator.store.bundle.slice_keys import Extents, slice_key
from orchestrator.store.bundle.sstable import mask
from orchestrator.store.bundle.table_writer import table_bytes

COPY = "Use another checkpoint, or copy this one again"
HEADER = (b"", serialized("BundleHeader", num_shards=2))


def entry(*shape: int, dtype: int = 6, **fields: Any) -> bytes:
    """A record of a tensor, int8 where nothing else is said."""
    dims = {"dim": [{"size": size} for size in shape]}
    return serialized("BundleEntry", dtype=dtype, shape=dims, **fields)


def listing(*shape: int, slices: int = 1) -> tuple[bytes, bytes]:
    return b"emb", entry(*shape, slices=[{}] * slices)


def part(extents: Extents, *shape: int, key: str = "emb", **fields: Any) -> tuple[bytes, bytes]:
    return slice_key(key, extents), entry(*shape, **fields)


def read(*items: tuple[bytes, bytes]) -> BundleIndex:
    return read_index(table_bytes(sorted(items)), "m.index")


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([], "m.index holds no records at all"),
        ([(b"w", entry(1, size=1))], "m.index has no header record"),
        ([(b"", serialized("BundleHeader"))], "m.index claims 0 data files"),
        ([(b"", serialized("BundleHeader", num_shards=-1))], "m.index claims -1 data files"),
        (
            [(b"", serialized("BundleHeader", num_shards=100_001))],
            "m.index claims 100001 data files",
        ),
        (
            [HEADER, (b"w", entry(dtype=99, size=1))],
            "m.index: 'w' has the unknown dtype 99",
        ),
        ([HEADER, (b"w", entry(-1, size=1))], "m.index: 'w' has a negative size or offset"),
        ([HEADER, (b"w", entry(2, -1, size=1))], "m.index: 'w' has a negative size or offset"),
        ([HEADER, (b"w", entry(size=-1))], "m.index: 'w' has a negative size or offset"),
        (
            [HEADER, (b"w", entry(size=1, offset=-1))],
            "m.index: 'w' has a negative size or offset",
        ),
        ([HEADER, (b"w", entry(size=1, shard_id=2))], "m.index: 'w' lies in data file 2 of 2"),
        ([HEADER, (b"w", entry(size=1, shard_id=-1))], "m.index: 'w' lies in data file -1 of 2"),
        (
            [HEADER, (b"w", entry(3, 2, dtype=1, size=25))],
            "m.index: 'w' is float32 [3, 2], 24 bytes, but claims 25",
        ),
        (
            [HEADER, (b"w", entry(2**40, 2**40, size=8))],
            f"m.index: 'w' is int8 [{2**40}, {2**40}], {2**80} bytes, but claims 8",
        ),
        (
            [HEADER, part(((0, 1),), 1, size=1)],
            "m.index has a slice of 'emb', and no such tensor",
        ),
        ([HEADER, listing(4)], "m.index: 'emb': parts hold 0 of 4 elements"),
        (
            [HEADER, listing(4), part(((0, 3),), 3, size=3)],
            "m.index: 'emb': parts hold 3 of 4 elements",
        ),
        (
            [HEADER, listing(4), part(((0, 4),), 3, size=4)],
            "m.index: 'emb' is int8 [3], 3 bytes, but claims 4",
        ),
        (
            [HEADER, listing(4), part(((0, 4),), 4, size=4), (b"\0?", b"")],
            "m.index has a damaged slice key",
        ),
    ],
)
def test_index_that_cannot_be_says_why(items: list[tuple[bytes, bytes]], said: str) -> None:
    with pytest.raises(CorruptCheckpoint) as refused:
        read(*items)
    assert (refused.value.message, refused.value.remedy) == (said, COPY)


def test_record_that_is_damaged_is_named_with_its_key() -> None:
    with pytest.raises(CorruptCheckpoint, match=r"^m\.index, key 'w' holds a damaged BundleEntry"):
        read(HEADER, (b"w", b"\xff"))
    with pytest.raises(CorruptCheckpoint, match=r"^m\.index, key 'emb' holds a damaged BundleEntr"):
        read(HEADER, (part(((0, 1),))[0], b"\xff"))
    with pytest.raises(CorruptCheckpoint, match=r"^m\.index holds a damaged BundleHeader record"):
        read((b"", b"\xff"))
    with pytest.raises(CorruptCheckpoint, match=r"^the index is empty"):
        read_index(b"")


def test_index_of_a_big_endian_machine_says_how_to_convert_it() -> None:
    with pytest.raises(CorruptCheckpoint) as refused:
        read((b"", serialized("BundleHeader", num_shards=1, endianness=1)))
    assert refused.value.message == "m.index was written on a big-endian machine"
    assert refused.value.remedy == ("Convert it there with TensorFlow: restore and save again")


def test_record_says_where_its_tensor_lies() -> None:
    crc = 0x1234_5678
    place: dict[str, Any] = {"shard_id": 1, "offset": 70, "crc32c": mask(crc)}
    index = read(
        (b"", serialized("BundleHeader", num_shards=100_000)),
        (b"any\xff", entry(2, 3, dtype=1, size=24, **place)),
        (b"none", entry(0, 3, dtype=1)),
        (b"text", entry(2, dtype=7, size=9)),
        *(listing(4, 2, slices=2), part(((0, 1), (0, -1)), 1, 2, size=2, slices=[{}], **place)),
        part(((1, 3), (0, 2)), 3, 2, size=6),
    )
    assert (index.format, index.num_shards) == ("V2", 100_000)
    assert index.entries == {
        "any\udcff": BundleTensor("any\udcff", "float32", (2, 3), 1, 70, 24, crc),
        "none": BundleTensor("none", "float32", (0, 3), crc32c=index.entries["none"].crc32c),
        "text": BundleTensor("text", "string", (2,), 0, 0, 9, index.entries["none"].crc32c),
        "emb": BundleTensor("emb", "int8", (4, 2), crc32c=index.entries["none"].crc32c, slices=2),
    }
    first, second = index.slice_data
    assert first == BundleTensor("emb", "int8", (1, 2), 1, 70, 2, crc, 0, ((0, 1), (0, -1)))
    assert (second.extents, second.shape, second.size_bytes) == (((1, 3), (0, 2)), (3, 2), 6)
    assert index.pieces[-1].shard == 1
    assert index.shard_bytes == {0: 9, 1: 94}
    assert index.keys_for_graph()["emb"] == CheckpointTensor("int8", (4, 2))


@pytest.mark.parametrize(
    ("tensors", "key"),
    [
        ([("global_step", "int64", ()), ("a/global_step", "int64", ())], "global_step"),
        ([("global_step", "int32", ())], "global_step"),
        ([("a/global_step", "int64", ()), ("b", "int64", ())], "a/global_step"),
        ([("a/global_step", "int64", ()), ("b/global_step", "int64", ())], None),
        ([("global_step", "float32", ())], None),
        ([("global_step", "int64", (1,))], None),
        ([("not_global_step", "int64", ())], None),
        ([("global_step/Adam", "int64", ())], None),
        ([], None),
    ],
)
def test_global_step_is_what_is_called_so_once(
    tensors: list[tuple[str, str, tuple[int, ...]]], key: str | None
) -> None:
    entries = {name: BundleTensor(name, dtype, shape) for name, dtype, shape in tensors}
    assert BundleIndex("V2", 1, entries).step_key() == key
