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

from orchestrator.decide.spans import held
from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.bundle.changed_rows import changed_tensors
from orchestrator.store.bundle.in_memory import BundleInMemory, TensorInMemory
from orchestrator.store.bundle.sstable import mask
from orchestrator.store.objects.manifest import FileRecord
from tests.fakes.bundles import NUMBERS, meta_bytes, serialize, table_bytes, tensor_bytes

BATCHES = 4
"""Of each step."""
CHAIN_OF = "chain/"
"""Before a rank's number, among the keys of a checkpoint that several ranks wrote: all hold the same
variables, and each writes its part of them.
"""
TABLE_ROWS = 12
"""Of the table that the workers of a divided run share."""


@functools.cache
def chain_at(step: int) -> int:
    """What the variables are at a step, if nothing went wrong."""
    return 1 if step == 0 else zlib.crc32(f"{chain_at(step - 1)} {step}".encode())


def touched(step: int) -> set[int]:
    """The rows of the table that a step writes."""
    return {step % TABLE_ROWS, 5 * step % TABLE_ROWS}


_TABLES = [(1,) * TABLE_ROWS]


def table_at(step: int) -> tuple[int, ...]:
    """The table at a step, if nothing went wrong."""
    while len(_TABLES) <= step:
        rows = enumerate(_TABLES[-1])
        _TABLES.append(tuple(row_after(row, value, len(_TABLES)) for row, value in rows))
    return _TABLES[step]


def row_after(row: int, value: int, step: int) -> int:
    """What a step makes of a row: one that it writes follows from what it was."""
    return zlib.crc32(f"{value} {step}".encode()) if row in touched(step) else value


@dataclass(frozen=True)
class SimState:
    """All variables."""

    step: int
    position: int
    chain: int
    share: tuple[int, int] | None = field(default=(0, 1), compare=False)
    rows: Mapping[int, int] = field(default_factory=dict, compare=False, hash=False)
    """Of the divided table, by number, from wherever they came."""
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
        rows = {row: row_after(row, value, step) for row, value in self.rows.items()}
        return SimState(step, self.position + BATCHES, chain, self.share, rows)


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


def part_of_state(
    prefix: str, state: SimState, part: tuple[int, int], *, divided: bool
) -> BundleInMemory:
    """One rank's data file of a checkpoint that several write: a number for each rank, the first's
    being those that one alone would write, and with a divided table its rows, or what has changed
    of them.
    """
    rank, ranks = part
    tensors = _rows_of_part(state, rank, ranks) if divided else []
    scalars = {f"{CHAIN_OF}{rank}": state.chain}
    if rank == 0:
        scalars = {"chain": state.chain, "global_step": state.step}
    if rank == 0 or not divided:
        tensors[:0] = [
            TensorInMemory(key, "int64", (), (np.int64(value).tobytes(),))
            for key, value in scalars.items()
        ]
    return BundleInMemory(prefix, tensors, rank, ranks)


def _rows_of_part(state: SimState, rank: int, ranks: int) -> list[TensorInMemory]:
    start, stop = TABLE_ROWS * rank // ranks, TABLE_ROWS * (rank + 1) // ranks
    own = np.array([state.rows[row] for row in range(start, stop)], np.int64)
    tensors: list[TensorInMemory] = []
    if state.changed is None:
        rows, block = own.tobytes(), ((start, len(own)),)
        shape = (len(own),)
        tensors.append(TensorInMemory("table", "int64", shape, (rows,), None, (TABLE_ROWS,), block))
    elif state.changed:
        numbers = np.array(state.changed)
        values = memoryview(own[numbers].tobytes())
        tensors += changed_tensors(rank, "table", "int64", (TABLE_ROWS,), numbers + start, [values])
    return tensors


@functools.cache
def graph_of_state(divided: bool = True) -> bytes:
    """The graph of a checkpoint."""
    table = {"table": np.zeros(TABLE_ROWS, np.int64)} if divided else {}
    return meta_bytes({"global_step": np.int64(0), "chain": np.int64(0), **table})


Files = Mapping[str, bytes]
"""The index and the data files of one save, by name."""


def held_by(saves: Sequence[Files]) -> tuple[int, int, np.ndarray | None]:
    """The step, the chain (0 where its parts aren't of one state) and the table that some saves come
    to, each over those before it; no table where there's none.
    """
    numbers: dict[str, int] = {}
    table: np.ndarray | None = None
    for files in saves:
        (name,) = (name for name in files if name.endswith(".index"))
        rows: dict[str, np.ndarray] = {}
        index = _index_of(files[name])
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
    chain = numbers["chain"]
    parts = [value for key, value in numbers.items() if key.startswith(CHAIN_OF)]
    return numbers["global_step"], chain if set(parts) <= {chain} else 0, table


_index_of = functools.lru_cache(4096)(read_index)
"""The same saves are asked after at each deletion."""


def holds(saves: Sequence[Files], step: int, *, divided: bool) -> bool:
    """Whether some saves come to what the variables are at a step."""
    found, chain, table = held_by(saves)
    if (found, chain, table is not None) != (step, chain_at(step), divided):
        return False
    return table is None or bool((table == table_at(step)).all())


def rows_held(share: tuple[int, int], copies: int) -> tuple[int, ...]:
    """The rows of the table that a rank of so many holds."""
    blocks = [span.of(TABLE_ROWS) for span in held(share, copies)]
    return tuple(row for first, end in blocks for row in range(first, end))


def record_of(name: str, data: bytes) -> FileRecord:
    return FileRecord(name=name, size_bytes=len(data), crc32c=google_crc32c.value(data))
