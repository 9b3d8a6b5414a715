"""What do the simulated workers train, and how does that look in a store?

A state's ``chain`` follows from its step alone, whoever computed it and however often: a step of
the run has one set of batches. So whoever sees a state can tell whether it's good.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import google_crc32c
import numpy as np

from orchestrator.store.bundle.in_memory import BundleInMemory, TensorInMemory
from orchestrator.store.bundle.sstable import mask
from orchestrator.store.objects.manifest import FileRecord
from tests.fakes.bundles import NUMBERS, meta_bytes, serialize, table_bytes, tensor_bytes

BATCHES = 4
"""Of each step."""
TABLE_ROWS = 12
"""Of the table that the workers of a divided run share."""


@functools.cache
def chain_at(step: int) -> int:
    """What the variables are at a step, if nothing went wrong."""
    return 1 if step == 0 else zlib.crc32(f"{chain_at(step - 1)} {step}".encode())


@dataclass(frozen=True)
class SimState:
    """All variables."""

    step: int
    position: int
    chain: int
    share: tuple[int, int] = field(default=(0, 1), compare=False)
    live: None = field(default=None, compare=False)
    """All of it is copied."""

    @property
    def size_bytes(self) -> int:
        return 16

    @property
    def is_good(self) -> bool:
        return (self.position, self.chain) == (BATCHES * self.step, chain_at(self.step))

    def after_step(self) -> SimState:
        step = self.step + 1
        chain = zlib.crc32(f"{self.chain} {step}".encode())
        return SimState(step, self.position + BATCHES, chain, self.share)


def start_state(step: int = 0) -> SimState:
    return SimState(step, BATCHES * step, chain_at(step))


@functools.lru_cache(4096)
def files_of_state(prefix: str, state: SimState) -> tuple[tuple[str, bytes], ...]:
    """Name and content of each file of a checkpoint, in the formats that TensorFlow reads."""
    tensors = {"global_step": np.int64(state.step), "chain": np.int64(state.chain)}
    items = [(b"", serialize("BundleHeader", num_shards=1))]
    data = bytearray()
    for key in sorted(tensors):
        dtype, _, content, crc = tensor_bytes(tensors[key])
        entry = {
            "dtype": NUMBERS[dtype],
            "shape": {"dim": []},
            "shard_id": 0,
            "offset": len(data),
            "size": len(content),
            "crc32c": mask(crc),
        }
        items.append((key.encode(), serialize("BundleEntry", **entry)))
        data += content
    return (
        (f"{prefix}.data-00000-of-00001", bytes(data)),
        (f"{prefix}.index", table_bytes(items)),
        (f"{prefix}.meta", graph_of_state(divided=False)),
    )


def part_of_state(prefix: str, state: SimState, rest: bool) -> BundleInMemory:
    """One rank's data file of a checkpoint with a divided table, each of whose rows is the chain."""
    rank, ranks = state.share
    start, stop = TABLE_ROWS * rank // ranks, TABLE_ROWS * (rank + 1) // ranks
    rows = np.full(stop - start, state.chain, np.int64).tobytes()
    count = stop - start
    block = ((start, count),)
    tensors = [TensorInMemory("table", "int64", (count,), (rows,), None, (TABLE_ROWS,), block)]
    if rest:
        scalars = {"chain": state.chain, "global_step": state.step}
        tensors[:0] = [
            TensorInMemory(key, "int64", (), (np.int64(value).tobytes(),))
            for key, value in scalars.items()
        ]
    return BundleInMemory(prefix, tensors, rank, ranks)


@functools.cache
def graph_of_state(divided: bool = True) -> bytes:
    """The graph of a checkpoint."""
    table = {"table": np.zeros(TABLE_ROWS, np.int64)} if divided else {}
    return meta_bytes({"global_step": np.int64(0), "chain": np.int64(0), **table})


def chain_in(data: bytes) -> int:
    """What a checkpoint's data file holds: keys come in their order, ``chain`` first."""
    return int(np.frombuffer(data[:8], np.int64)[0])


def holds(files: Sequence[bytes], chain: int, *, divided: bool) -> bool:
    """Whether a checkpoint's data files hold that chain; of a divided table each row once."""
    numbers = [np.frombuffer(data, np.int64) for data in files]
    if not numbers or len(numbers[0]) < 2 or int(numbers[0][0]) != chain:
        return False
    rows = np.concatenate([numbers[0][2:], *numbers[1:]])
    return len(rows) == (TABLE_ROWS if divided else 0) and bool((rows == chain).all())


def record_of(name: str, data: bytes) -> FileRecord:
    return FileRecord(name=name, size_bytes=len(data), crc32c=google_crc32c.value(data))
