"""Does a checkpoint that lies in memory say of each of its parts what it is, and where it will lie?

That its bytes are TensorFlow's own is asked by ``test_recorded_bytes.py``.
"""

from __future__ import annotations

from typing import Any

import google_crc32c
import pytest

from orchestrator.store.bundle.bundle import BundleTensor, read_index
from orchestrator.store.bundle.in_memory import CHUNK_BYTES, BundleInMemory, TensorInMemory
from orchestrator.store.bundle.slice_keys import WHOLE_DIMENSION, Extents
from orchestrator.store.objects.traffic import MOVED


def held(key: str, shape: tuple[int, ...], *pieces: bytes, **fields: Any) -> TensorInMemory:
    """A tensor of int8."""
    return TensorInMemory(key, "int8", shape, pieces, **fields)


EMB = "emb\udcff"
ROWS = held(EMB, (2, 3), b"abc", b"def", whole_shape=(5, 3), extents=((1, 2), (0, -1)))
TENSORS = [
    ROWS,
    held("none", (0,)),
    TensorInMemory("text", "string", (1,), (b"?", b"12"), crc32c=77),
    held("whole", (2,), b"gh", whole_shape=(2,), extents=((0, 2),)),
    held("x\udcff", (1,), b"i"),
]


@pytest.mark.parametrize(
    ("shape", "extents", "is_slice"),
    [
        ((), (), False),
        ((4, 2), ((0, 4), (0, 2)), False),
        ((4, 2), ((0, WHOLE_DIMENSION), (0, 2)), False),
        ((4, 2), ((0, 4), (0, 1)), True),
        ((4, 2), ((0, 3), (0, 2)), True),
        ((4, 2), ((1, 3), (0, WHOLE_DIMENSION)), True),
    ],
)
def test_tensor_is_a_slice_where_it_is_less_than_the_whole(
    shape: tuple[int, ...], extents: Extents, is_slice: bool
) -> None:
    assert held("w", (1,), b"x", whole_shape=shape, extents=extents).is_slice == is_slice


def test_data_file_of_a_rank_is_what_its_report_says() -> None:
    bundle = BundleInMemory("m-5", TENSORS, 1, 3)
    data, report = bundle.data(), bundle.report()
    assert data.name == "m-5.data-00001-of-00003"
    content = data.read(0, data.size_bytes)
    assert content == b"abcdef" + b"?12" + b"gh" + b"i"
    assert data.record().crc32c == google_crc32c.value(content)
    assert (report.shard, report.num_shards, report.shapes) == (1, 3, {EMB: (5, 3)})

    def crc(data: bytes) -> int:
        return int(google_crc32c.value(data))

    assert report.pieces == (
        BundleTensor(EMB, "int8", (2, 3), 1, 0, 6, crc(b"abcdef"), 0, ((1, 2), (0, 3))),
        BundleTensor("none", "int8", (0,), 1, 6, 0, 0),
        BundleTensor("text", "string", (1,), 1, 6, 3, 77),
        BundleTensor("whole", "int8", (2,), 1, 9, 2, crc(b"gh")),
        BundleTensor("x\udcff", "int8", (1,), 1, 11, 1, crc(b"i")),
    )


def test_index_of_the_only_file_lists_each_tensor_and_the_parts_of_it_that_are_there() -> None:
    rest = [
        held(EMB, (1, 3), b"uvw", whole_shape=(5, 3), extents=((0, 1), (0, WHOLE_DIMENSION))),
        held(EMB, (2, 3), b"xyzxyz", whole_shape=(5, 3), extents=((3, 2), (0, 3))),
    ]
    bundle = BundleInMemory("m-5", [*TENSORS, *rest])
    content = bundle.index()
    assert content.name == "m-5.index"
    index = read_index(content.read(0, content.size_bytes))
    assert index.num_shards == 1
    assert index.entries.keys() == {EMB, "none", "text", "whole", "x\udcff"}
    assert (index.entries[EMB].shape, index.entries[EMB].slices) == ((5, 3), 3)
    assert [(one.offset, one.extents) for one in index.slice_data] == [
        (12, ((0, 1), (0, WHOLE_DIMENSION))),
        (0, ((1, 2), (0, WHOLE_DIMENSION))),
        (15, ((3, 2), (0, 3))),
    ]
    assert index.shard_bytes == {0: bundle.data().size_bytes}


class Looked:
    """Bytes that know which of them were asked for."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.asked: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._content)

    def __getitem__(self, wanted: slice) -> bytes:
        self.asked.append((wanted.start, wanted.stop))
        return self._content[wanted]


def test_checksums_are_computed_once_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    monkeypatch.setattr(MOVED, "add", moved.append)
    large = bytes(range(256)) * (CHUNK_BYTES // 256) + b"more"
    looked = Looked(large)
    bundle = BundleInMemory("m-5", [TensorInMemory("w", "int8", (4,), (looked, b"rest"))])
    data, report, _ = bundle.data(), bundle.report(), bundle.index()
    assert data.record().crc32c == report.pieces[0].crc32c
    assert report.pieces[0].crc32c == google_crc32c.value(large + b"rest")
    assert moved == [CHUNK_BYTES, 4, 4]
    assert looked.asked == [(0, CHUNK_BYTES), (CHUNK_BYTES, 2 * CHUNK_BYTES)]
