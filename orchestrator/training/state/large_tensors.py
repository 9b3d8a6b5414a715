"""How does a large tensor get from a checkpoint's file into memory that can be given back?

Rule: whole numeric tensors of the V2 format lie in their file as NumPy has them, so they're read
from there, with the checksum that the index holds. TensorFlow's RestoreV2 would put them into its
own allocator, which keeps what it once had (on CPUs where oneDNN is on): a worker would go on with
the size of its state in memory that nobody uses. Everything else is RestoreV2's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor, read_index
from orchestrator.store.bundle.tensor_crc import UNCHECKED, RunningCrc
from orchestrator.store.objects.traffic import MOVED
from orchestrator.training.state.host_buffers import aligned

LARGE_BYTES = 1 << 20
"""Tensors from this size on are read straight into their place: below it the reading of
TensorFlow's own checkpoint reader costs less than a call for each.
"""
CHUNK_BYTES = 2 << 20
"""Read and added to the checksum at once, while it's still in the processor's cache."""


def index_of(prefix: str) -> BundleIndex | None:
    """The index of a local V2 checkpoint; None for another format.

    Raises:
        CorruptCheckpoint: it can't be read.
    """
    path = Path(f"{prefix}.index")
    return read_index(path.read_bytes(), path.name) if path.is_file() else None


def large_tensor(index: BundleIndex, prefix: str, key: str, dtype: np.dtype) -> np.ndarray | None:
    """A tensor's values, aligned as TensorFlow likes it; None where it's small, in slices, or not
    laid out as an array.

    Raises:
        CorruptCheckpoint: the file is too short, or the bytes aren't the ones that were saved.
    """
    tensor = index.entries.get(key)
    if tensor is None or sys.byteorder != "little" or not _is_plain(tensor, dtype):
        return None
    array = aligned(tensor.shape, dtype)
    memory = array.reshape(-1).view(np.uint8).data
    crc = RunningCrc(tensor)
    file = f"{prefix}.data-{tensor.shard:05d}-of-{index.num_shards:05d}"
    with open(file, "rb", buffering=0) as opened:
        for start in range(0, tensor.size_bytes, CHUNK_BYTES):
            data = os.pread(
                opened.fileno(), min(CHUNK_BYTES, tensor.size_bytes - start), tensor.offset + start
            )
            if len(data) != min(CHUNK_BYTES, tensor.size_bytes - start):
                raise corrupt(prefix, f"{Path(file).name} is cut off in tensor {key!r}")
            crc.add(data)
            memory[start : start + len(data)] = data
            MOVED.add(len(data))
    if problem := crc.problem():
        raise corrupt(prefix, f"tensor {key!r} {problem}")
    return array


def _is_plain(tensor: BundleTensor, dtype: np.dtype) -> bool:
    return (
        tensor.size_bytes >= LARGE_BYTES
        and not tensor.slices
        and tensor.dtype not in UNCHECKED
        and not dtype.hasobject
        and dtype.fields is None
        and tensor.size_bytes == tensor.elements * dtype.itemsize
    )


def corrupt(prefix: str, what: str) -> CorruptCheckpoint:
    """A local checkpoint that can't be read, and why."""
    return CorruptCheckpoint(
        f"the checkpoint {prefix} can't be read: {what}",
        remedy="Resume from an older checkpoint; `tfresume checkpoints --verify` finds a good one",
    )
