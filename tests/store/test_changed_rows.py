"""Are changed rows written as rows of their table, and nothing else taken for such?"""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint, OutputError
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.changed_rows import (
    ChangedRows,
    changed_in,
    changed_tensors,
    is_whole,
    row_numbers,
)

DISORDERS = pytest.mark.parametrize(
    ("rows", "shape", "said"),
    [
        ([1, 3, 2], (5, 2), "aren't ascending"),
        ([1, 1], (5, 2), "aren't ascending"),
        ([-1, 2, 3], (5, 2), "lie outside of it: -1 to 3"),
        ([2, 3, 5], (5, 2), "lie outside of it: 2 to 5"),
        ([0, 1, 3], (), "lie outside of it: 0 to 3"),
    ],
)


@pytest.mark.parametrize("kind", ["<i8", "<i4", ">i8"])
def test_changed_rows_are_two_tensors_of_their_rank(kind: str) -> None:
    rows = np.array([0, 2, 4], kind)
    values = [memoryview(bytes(16)), memoryview(bytes(8))]
    numbers, content = changed_tensors(7, "a/emb", "float32", (5, 2), rows, values)
    assert (numbers.key, numbers.dtype, numbers.shape, numbers.size_bytes) == (
        *("tfresume/changed/00007/rows/a/emb", "int64"),
        *((3,), 24),
    )
    (written,) = numbers.pieces
    assert bytes(written[:]) == np.array([0, 2, 4], np.int64).tobytes()
    assert (content.key, content.dtype, content.shape, content.pieces) == (
        *("tfresume/changed/00007/values/a/emb", "float32"),
        *((3, 2), tuple(values)),
    )
    assert row_numbers(bytes(written[:]), (5, 2), "m", "a/emb").tolist() == [0, 2, 4]


@DISORDERS
def test_rows_that_a_table_lacks_are_never_written(
    rows: list[int], shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(OutputError) as raised:
        changed_tensors(0, "emb", "float32", shape, np.array(rows), [memoryview(bytes(24))])
    assert raised.value.message == f"the changed rows of 'emb' {list(shape)} {said}"
    assert raised.value.remedy == "Nothing was saved; the next save tries again"


@DISORDERS
def test_rows_that_a_table_lacks_are_never_read(
    rows: list[int], shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(CorruptCheckpoint) as raised:
        row_numbers(np.array(rows, np.int64).tobytes(), shape, "m-5.changed", "emb")
    assert raised.value.message == f"m-5.changed: the changed rows of 'emb' {said}"
    assert raised.value.remedy == "Use an older checkpoint"


def test_no_rows_at_all_are_rows_of_any_table() -> None:
    assert row_numbers(b"", (5, 2), "m", "emb").tolist() == []


def _index(*tensors: tuple[str, tuple[int, ...]]) -> BundleIndex:
    return BundleIndex("V2", 1, {key: BundleTensor(key, "int64", shape) for key, shape in tensors})


def test_changed_rows_of_a_save_are_found_by_table_in_the_order_of_ranks() -> None:
    found = changed_in(
        _index(
            ("tfresume/changed/00010/values/emb", (2, 4)),
            ("tfresume/changed/00002/rows/emb", (3,)),
            ("tfresume/changed/00010/rows/emb", (2,)),
            ("tfresume/changed/00002/values/emb", (3, 4)),
            ("tfresume/changed/00002/rows/b\n", (1,)),
            ("tfresume/changed/00002/values/b\n", (1,)),
            ("emb/Adam", (9, 4)),
        ),
        "m",
    )
    shown = {
        key: [(one.rows.key[17:22], one.rows.shape, one.values.shape) for one in each]
        for key, each in found.items()
    }
    assert shown == {
        "emb": [("00002", (3,), (3, 4)), ("00010", (2,), (2, 4))],
        "b\n": [("00002", (1,), (1,))],
    }
    assert isinstance(found["emb"][0], ChangedRows)


@pytest.mark.parametrize(
    "tensors",
    [
        [("tfresume/changed/00002/rows/emb", (3,))],
        [("tfresume/changed/00002/values/emb", (3, 4))],
        [("tfresume/changed/00002/rows/emb", (3,)), ("tfresume/changed/00003/values/emb", (3, 4))],
        [("tfresume/changed/00002/rows/emb", (3,)), ("tfresume/changed/00002/values/emb", (2, 4))],
        [("tfresume/changed/00002/rows/emb", ()), ("tfresume/changed/00002/values/emb", (1, 4))],
    ],
)
def test_numbers_without_as_many_values_are_refused(
    tensors: list[tuple[str, tuple[int, ...]]],
) -> None:
    with pytest.raises(CorruptCheckpoint) as raised:
        changed_in(_index(*tensors), "m-5.changed")
    assert raised.value.message == (
        "m-5.changed: the changed rows of 'emb' and their values don't belong together"
    )
    assert raised.value.remedy == "Use an older checkpoint"


@pytest.mark.parametrize(
    ("key", "whole"),
    [
        ("emb", True),
        ("tfresume/changed/00002/rows/emb", False),
        ("tfresume/changed/123456/values/a\nb", False),
        ("tfresume/changed/0002/rows/emb", True),
        ("tfresume/changed/00002/other/emb", True),
        ("scope/tfresume/changed/00002/rows/emb", True),
    ],
)
def test_tensor_of_a_save_is_its_own_or_changed_rows(key: str, whole: bool) -> None:
    assert is_whole(key) == whole
