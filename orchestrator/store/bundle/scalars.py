"""Which count does a checkpoint hold under a key?

Rule: only its own bytes are fetched, and they're checked. Anything but a whole number is no
counter.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleIndex
from orchestrator.store.bundle.counters import COUNTERS, whole_number
from orchestrator.store.bundle.sstable import Table
from orchestrator.store.bundle.tensor_crc import tensor_problem
from orchestrator.store.bundle.v1 import read_v1_scalar
from orchestrator.store.objects.location import FileInfo


def read_counter(index: BundleIndex, files: Sequence[FileInfo], key: str) -> int | None:
    """The counter ``key`` of a checkpoint; None where it holds no such thing.

    Args:
        index: what it holds.
        files: its index first in V2 format, then its data; its shards in V1 format.

    Raises:
        CorruptCheckpoint: the bytes aren't what the index says.
        SourceError, StorageUnavailable: they can't be read.
    """
    tensor = index.entries.get(key)
    if tensor is None or tensor.shape != () or tensor.dtype not in COUNTERS:
        return None
    if index.format == "V1":
        file = files[tensor.shard]
        return read_v1_scalar(
            file.name, Table(file.location.read_bytes, file.size_bytes, file.name), key
        )
    file = files[1 + tensor.shard]
    content = file.location.read_bytes(tensor.offset, tensor.offset + tensor.size_bytes)
    problem = tensor_problem(tensor, content)
    if problem:
        raise CorruptCheckpoint(
            f"{file.name}: tensor {key!r} {problem}",
            remedy="Use another checkpoint, or copy this one again",
        )
    return whole_number(content, tensor.dtype)
