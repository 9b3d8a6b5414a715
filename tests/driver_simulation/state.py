"""What do the simulated workers train, and how does that look in a store?

A state's ``chain`` follows from its step alone, whoever computed it and however often: a step of
the run has one set of batches. So whoever sees a state can tell whether it's good.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import google_crc32c
import numpy as np

from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.bundle.changed_rows import changed_tensors
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


def touched(step: int) -> set[int]:
    """The rows of the table that a step writes."""
    return {step % TABLE_ROWS, 5 * step % TABLE_ROWS}


def table_at(step: int, chain: int) -> np.ndarray:
    """The table: each row is the chain of the last step that wrote it."""
    rows, before = [], chain_at(0)
    for row in range(TABLE_ROWS):
        steps = [one for one in range(max(1, step - TABLE_ROWS), step + 1) if row in touched(one)]
        at = max(steps, default=0)
        rows.append(chain if at == step and step else chain_at(at) if at else before)
    return np.array(rows, np.int64)


@dataclass(frozen=True)
class SimState:
    """All variables."""

    step: int
    position: int
    chain: int
    share: tuple[int, int] = field(default=(0, 1), compare=False)
    changed: tuple[int, ...] | None = field(default=None, compare=False)
    """For a save of changed rows those of the block; None where all are meant."""
    live: ClassVar[None] = None
    """There's always room for a copy here."""

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

    @property
    def block(self) -> tuple[int, int]:
        """The rows of the table that this worker holds."""
        rank, ranks = self.share
        return TABLE_ROWS * rank // ranks, TABLE_ROWS * (rank + 1) // ranks

    @property
    def rows(self) -> np.ndarray:
        """Those rows."""
        start, stop = self.block
        return table_at(self.step, self.chain)[start:stop]


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
    """One rank's data file of a checkpoint with a divided table, or of what has changed of it."""
    (start, stop), (rank, ranks) = state.block, state.share
    tensors: list[TensorInMemory] = []
    if state.changed is None:
        rows, block = state.rows.tobytes(), ((start, stop - start),)
        shape = (stop - start,)
        tensors.append(TensorInMemory("table", "int64", shape, (rows,), None, (TABLE_ROWS,), block))
    elif state.changed:
        numbers = np.array(state.changed)
        values = memoryview(state.rows[numbers].tobytes())
        tensors += changed_tensors(rank, "table", "int64", (TABLE_ROWS,), numbers + start, [values])
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


Files = Mapping[str, bytes]
"""The index and the data files of one save, by name."""


def held_by(saves: Sequence[Files]) -> tuple[int, int, np.ndarray | None]:
    """The step, the chain and the table that some saves come to, each over those before it; no
    table where there's none.
    """
    numbers: dict[str, int] = {}
    table: np.ndarray | None = None
    for files in saves:
        (name,) = (name for name in files if name.endswith(".index"))
        rows: dict[str, np.ndarray] = {}
        index = read_index(files[name])
        for piece in index.pieces:
            suffix = f".data-{piece.shard:05d}-of-{index.num_shards:05d}"
            data = files[name.removesuffix(".index") + suffix]
            held = np.frombuffer(data[piece.offset : piece.offset + piece.size_bytes], np.int64)
            if piece.key == "table":
                table = np.zeros(TABLE_ROWS, np.int64) if table is None else table
                start = piece.extents[0][0] if piece.extents else 0
                table[start : start + len(held)] = held
            elif piece.shape == ():
                numbers[piece.key] = int(held[0])
            else:
                rows[piece.key] = held
        for key, held in rows.items():
            if "/rows/" in key and table is not None:
                table[held] = rows[key.replace("/rows/", "/values/")]
    return numbers["global_step"], numbers["chain"], table


def holds(saves: Sequence[Files], step: int, *, divided: bool) -> bool:
    """Whether some saves come to what the variables are at a step."""
    found, chain, table = held_by(saves)
    if (found, chain, table is not None) != (step, chain_at(step), divided):
        return False
    return table is None or bool((table == table_at(step, chain)).all())


def record_of(name: str, data: bytes) -> FileRecord:
    return FileRecord(name=name, size_bytes=len(data), crc32c=google_crc32c.value(data))
