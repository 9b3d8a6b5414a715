"""How does a save hold only the rows of a table that have changed?

Rule: beside whole tensors and slices, each rank writes for each of its tables two tensors of its
own, ``tfresume/changed/RANK/rows/KEY`` (their numbers in the whole table, ascending) and
``tfresume/changed/RANK/values/KEY``. A key that isn't there at all hasn't changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.errors import CorruptCheckpoint, OutputError
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.in_memory import TensorInMemory

_KEY = re.compile(r"tfresume/changed/(\d{5,})/(rows|values)/(.+)", re.DOTALL)


@dataclass(frozen=True)
class ChangedRows:
    """One rank's changed rows of a table: which tensors hold their numbers and their values."""

    rows: BundleTensor
    values: BundleTensor


def changed_tensors(
    rank: int,
    key: str,
    dtype: str,
    shape: tuple[int, ...],
    rows: np.ndarray,
    values: Sequence[memoryview],
) -> tuple[TensorInMemory, TensorInMemory]:
    """Rows of a table as they're to lie in a rank's data file.

    Args:
        shape: of the whole table.
        rows: int64, ascending, each once, one at least: their numbers in the whole table.
        values: the bytes of those rows, one after the other.

    Raises:
        OutputError: they are no rows of that table.
    """
    return (
        TensorInMemory(
            _key(rank, "rows", key), "int64", (len(rows),), (_numbers(key, shape, rows),)
        ),
        TensorInMemory(_key(rank, "values", key), dtype, (len(rows), *shape[1:]), tuple(values)),
    )


def _key(rank: int, what: str, key: str) -> str:
    return f"tfresume/changed/{rank:05d}/{what}/{key}"


def _numbers(key: str, shape: tuple[int, ...], rows: np.ndarray) -> memoryview:
    if _disorder(rows, shape):
        raise OutputError(
            f"the changed rows of {key!r} {list(shape)} {_disorder(rows, shape)}",
            remedy="Nothing was saved; the next save tries again",
        )
    return np.ascontiguousarray(rows, "<i8").view(np.uint8).data


def changed_in(index: BundleIndex, name: str) -> Mapping[str, tuple[ChangedRows, ...]]:
    """The changed rows that a save holds, by the table's key, in the order of ranks.

    Raises:
        CorruptCheckpoint: numbers without values, or as many of the one as not of the other.
    """
    found: dict[str, dict[str, dict[str, BundleTensor]]] = {}
    for full_key, tensor in index.entries.items():
        match = _KEY.fullmatch(full_key)
        if match is not None:
            rank, kind, key = match.groups()
            found.setdefault(key, {}).setdefault(rank, {})[kind] = tensor
    for key, ranks in found.items():
        for pair in ranks.values():
            if len(pair) != 2 or pair["rows"].shape != pair["values"].shape[:1]:
                raise CorruptCheckpoint(
                    f"{name}: the changed rows of {key!r} and their values don't belong together",
                    remedy="Use an older checkpoint",
                )
    return {
        key: tuple(ChangedRows(**ranks[rank]) for rank in sorted(ranks))
        for key, ranks in found.items()
    }


def is_whole(key: str) -> bool:
    """Whether a key of such a save is a tensor's own."""
    return _KEY.fullmatch(key) is None


def row_numbers(content: bytes, shape: tuple[int, ...], name: str, key: str) -> np.ndarray:
    """The numbers that a save holds, int64.

    Raises:
        CorruptCheckpoint: they are no rows of ``shape``.
    """
    rows = np.frombuffer(content, "<i8")
    if problem := _disorder(rows, shape):
        raise CorruptCheckpoint(
            f"{name}: the changed rows of {key!r} {problem}", remedy="Use an older checkpoint"
        )
    return rows


def _disorder(rows: np.ndarray, shape: tuple[int, ...]) -> str:
    if not len(rows):
        return ""
    if not shape or rows[0] < 0 or rows[-1] >= shape[0]:
        return f"lie outside of it: {rows[0]} to {rows[-1]}"
    return "" if bool(np.all(rows[1:] > rows[:-1])) else "aren't ascending"
