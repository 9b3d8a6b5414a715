"""What does a checkpoint in the old V1 format hold, in one shard or in many?"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleTensor
from orchestrator.store.bundle.slice_keys import slice_key
from orchestrator.store.bundle.sstable import MAGIC, Table, table_of
from orchestrator.store.bundle.v1 import read_v1, read_v1_scalar
from tests.fakes.bundles import serialize, table_bytes
from tests.fakes.v1 import Part, shard_bytes, tensor_proto, whole

AGAIN = "Use another checkpoint, or copy this one again"
KERNEL = np.arange(12, dtype=np.float32).reshape(4, 3)


def _shard(*parts: Part) -> Table:
    return table_of(shard_bytes(parts), "m-5")


def _of_contents(*tensors: dict[str, Any]) -> Table:
    return table_of(table_bytes([(b"", serialize("V1Entry", meta={"tensor": tensors}))]), "m-5")


def test_tensors_of_all_shards_are_told_with_type_shape_and_slices() -> None:
    rows = [
        Part("rows", KERNEL.shape, KERNEL[:1], ((0, 1), (0, 3))),
        Part("rows", KERNEL.shape, KERNEL[1:], ((1, 3), (0, -1))),
    ]
    first = _shard(whole("kernel", KERNEL), whole("words", [b"a", b"b"]), whole("\udcff", KERNEL))
    full = Part("full", KERNEL.shape, KERNEL, ((0, 4), (0, 3)))
    index = read_v1(
        [("m-5-0", first), ("m-5-1", _shard(*rows, full, whole("global_step", np.array(5))))]
    )
    assert (index.format, index.num_shards, index.slice_data) == ("V1", 2, ())
    assert index.entries == {
        "kernel": BundleTensor("kernel", "float32", (4, 3)),
        "words": BundleTensor("words", "string", (2,)),
        "\udcff": BundleTensor("\udcff", "float32", (4, 3)),
        "rows": BundleTensor("rows", "float32", (4, 3), shard=1, slices=2),
        "full": BundleTensor("full", "float32", (4, 3), shard=1),
        "global_step": BundleTensor("global_step", "int64", (), shard=1),
    }


def test_one_row_of_many_in_a_shard_is_a_slice_and_all_of_one_is_none() -> None:
    """An extent of no length is a whole dimension in a V1 table of contents."""
    one = Part("t", KERNEL.shape, KERNEL[2:], ((2, 2), (0, -1)))
    column = Part("column", KERNEL.shape, KERNEL[:, :1], ((0, -1), (0, 1)))
    entries = read_v1([("m-5", _shard(one, column, whole("single", KERNEL[:1])))]).entries
    assert {key: one.slices for key, one in entries.items()} == {
        "t": 1,
        "column": 1,
        "single": 0,
    }


@pytest.mark.parametrize("other", [KERNEL[:2], KERNEL.astype(np.float64)])
def test_shards_that_contradict_each_other_are_refused(other: np.ndarray) -> None:
    shards = [("m-5-0", _shard(whole("k", KERNEL))), ("m-5-1", _shard(whole("k", other)))]
    with pytest.raises(CorruptCheckpoint) as raised:
        read_v1(shards)
    assert raised.value.message == (
        f"m-5-1: 'k' is {other.dtype.name} {list(other.shape)} in this file, "
        "and float32 [4, 3] in another one of this checkpoint"
    )
    assert raised.value.remedy == AGAIN
    assert len(read_v1([shards[0], ("m-5-1", _shard(whole("k", KERNEL)))]).entries) == 1


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            table_of(table_bytes([(b"a", b"")]), "m-5"),
            "is a table, but no checkpoint in the V1 format",
        ),
        (table_of(table_bytes([]), "m-5"), "is a table, but no checkpoint in the V1 format"),
        (_of_contents({"name": b"k", "type": 77}), ": 'k' has the unknown dtype 77"),
        (
            _of_contents({"name": b"k\xff", "type": 1, "shape": {"dim": [{"size": -1}]}}),
            ": 'k\\udcff' has a negative size",
        ),
    ],
)
def test_table_that_is_no_such_checkpoint_is_refused(table: Table, said: str) -> None:
    with pytest.raises(CorruptCheckpoint) as raised:
        read_v1([("m-5", table)])
    assert raised.value.message == f"m-5 {said}".replace(" :", ":")
    assert raised.value.remedy == AGAIN


def test_damaged_table_of_contents_is_called_by_its_file() -> None:
    with pytest.raises(CorruptCheckpoint, match="m-5 holds a damaged V1Entry record"):
        read_v1([("m-5", table_of(table_bytes([(b"", b"\x0a\x05a")]), "m-5"))])


def test_table_without_blocks_is_no_such_checkpoint() -> None:
    block = table_bytes([])[:13]  # none of entries, with its checksum
    empty = block + 2 * b"\x00\x08" + 36 * b"\0" + struct.pack("<Q", MAGIC)
    assert table_of(empty, "m-5").block_count == 0
    with pytest.raises(CorruptCheckpoint, match="m-5 is a table, but no checkpoint"):
        read_v1([("m-5", table_of(empty, "m-5"))])


def test_slice_that_names_no_dimensions_is_the_whole_tensor() -> None:
    whole_one = {"name": b"k", "type": 1, "shape": {"dim": [{"size": 4}]}, "slice": [{}]}
    assert read_v1([("m-5", _of_contents(whole_one))]).entries["k"].slices == 0


def test_tensor_without_elements_is_no_damage() -> None:
    table = _of_contents({"name": b"k", "type": 1, "shape": {"dim": [{"size": 0}]}})
    assert read_v1([("m-5", table)]).entries["k"].shape == (0,)


@pytest.mark.parametrize(
    ("data", "step"),
    [
        (tensor_proto(np.array(41)), 41),
        (tensor_proto(np.array(41, np.int32)), 41),
        (tensor_proto(np.array(41, np.float32)), 41),
        (tensor_proto(np.array(41, np.float64)), 41),
        (tensor_proto(np.array(0.5, np.float32)), None),
        (TensorProto(dtype=9, tensor_content=b"\x29" + b"\0" * 7).SerializeToString(), 41),
        (TensorProto(dtype=1, tensor_content=b"\0\0\0\x3f").SerializeToString(), None),
        (TensorProto(dtype=3).SerializeToString(), 0),
    ],
)
def test_step_is_read_in_every_form_in_which_programs_count(data: bytes, step: int | None) -> None:
    table = _shard(
        whole("a/global_step", np.array(7)),
        Part("global_step", (), np.array(0), data=data),
        whole("z", KERNEL),
    )
    assert read_v1_scalar("m-5", table, "global_step") == step
    assert read_v1_scalar("m-5", table, "step") is None


def test_step_is_found_under_a_name_whose_bytes_are_escaped() -> None:
    table = _shard(whole("a\0b", np.array(7)), whole("a", np.array(5)))
    assert [read_v1_scalar("m-5", table, key) for key in ("a\0b", "a")] == [7, 5]


def test_step_is_read_without_the_variables_around_it() -> None:
    content = shard_bytes(
        [whole("a", KERNEL), whole("global_step", np.array(5)), whole("z", KERNEL)], per_block=1
    )
    asked: list[tuple[int, int]] = []

    def read(start: int, end: int) -> bytes:
        asked.append((start, end))
        return content[start:end]

    table = Table(read, len(content), "m-5")
    before = len(asked)
    assert read_v1_scalar("m-5", table, "global_step") == 5
    assert len(asked) == before + 1


def test_step_whose_record_is_damaged_is_called_by_its_file() -> None:
    table = table_of(table_bytes([(slice_key("global_step", ()), b"\x12\x05a")]), "m-5")
    with pytest.raises(CorruptCheckpoint, match=r"^m-5 holds a damaged V1Entry record"):
        read_v1_scalar("m-5", table, "global_step")


def test_step_that_is_no_number_is_refused() -> None:
    table = _shard(whole("global_step", [b"five"]))
    with pytest.raises(CorruptCheckpoint) as raised:
        read_v1_scalar("m-5", table, "global_step")
    assert raised.value.message == "m-5: 'global_step' holds no integer"
    assert raised.value.remedy == AGAIN
