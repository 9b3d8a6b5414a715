"""Which tensors does a checkpoint in the old V1 format hold?

Rule: V1 is one table per shard (``saved_tensor_slice.proto``): under the empty key what the shard
holds, under each other key a slice with its data. Names, dtypes and shapes stand in the first
block, so a large file isn't fetched to answer this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.counters import COUNTERS, whole_number
from orchestrator.store.bundle.protos import DTYPES, parse
from orchestrator.store.bundle.slice_keys import name_prefix
from orchestrator.store.bundle.sstable import Table

_REMEDY = "Use another checkpoint, or copy this one again"


def read_v1(tables: Sequence[tuple[str, Table]]) -> BundleIndex:
    """What all shards of a V1 checkpoint hold together.

    Args:
        tables: (file name, table) of every shard, in order.

    Raises:
        CorruptCheckpoint: a shard is damaged, or two contradict each other.
    """
    entries: dict[str, BundleTensor] = {}
    for shard, (name, table) in enumerate(tables):
        for meta in _meta(name, table).tensor:
            tensor = _tensor(meta, shard, name)
            known = entries.get(tensor.key)
            if known is not None and (known.dtype, known.shape) != (tensor.dtype, tensor.shape):
                raise CorruptCheckpoint(
                    f"{name}: {tensor.key!r} is {tensor.dtype} {list(tensor.shape)} in this file, "
                    f"and {known.dtype} {list(known.shape)} in another one of this checkpoint",
                    remedy=_REMEDY,
                )
            entries[tensor.key] = tensor
    return BundleIndex("V1", len(tables), entries)


def read_v1_scalar(name: str, table: Table, key: str) -> int | None:
    """The whole number ``key`` of a V1 shard, None where it isn't there or isn't whole. Reads the
    block that holds it.
    """
    for _, value in table.items_with(name_prefix(key)):
        return _scalar(parse("V1Entry", value, name).data.data, name, key)
    return None


def _meta(name: str, table: Table) -> Any:
    first = next(table.block_items(0), None) if table.block_count else None
    if first is None or first[0] != b"":
        raise CorruptCheckpoint(
            f"{name} is a table, but no checkpoint in the V1 format", remedy=_REMEDY
        )
    return parse("V1Entry", first[1], name).meta


def _tensor(meta: Any, shard: int, name: str) -> BundleTensor:
    key = meta.name.decode("utf-8", "surrogateescape")
    dtype = DTYPES.get(meta.type)
    if dtype is None:
        raise CorruptCheckpoint(
            f"{name}: {key!r} has the unknown dtype {meta.type}", remedy=_REMEDY
        )
    shape = tuple(dim.size for dim in meta.shape.dim)
    if any(size < 0 for size in shape):
        raise CorruptCheckpoint(f"{name}: {key!r} has a negative size", remedy=_REMEDY)
    partitioned = any(
        0 < extent.length < size
        for one in meta.slice
        for extent, size in zip(one.extent, shape, strict=False)
    )
    return BundleTensor(
        key, dtype, shape, shard=shard, slices=len(meta.slice) if partitioned else 0
    )


def _scalar(tensor: Any, name: str, key: str) -> int | None:
    for values in (tensor.int64_val, tensor.int_val, tensor.float_val, tensor.double_val):
        if len(values):
            return int(values[0]) if float(values[0]).is_integer() else None
    dtype = DTYPES.get(tensor.dtype)
    if dtype in COUNTERS:
        # TensorFlow leaves trailing zeros out
        return whole_number(tensor.tensor_content, dtype) if tensor.tensor_content else 0
    raise CorruptCheckpoint(f"{name}: {key!r} holds no integer", remedy=_REMEDY)
