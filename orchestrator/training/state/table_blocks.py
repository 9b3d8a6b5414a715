"""Which rows of a checkpoint's tables does this rank take, and where do the others' stay?

Rule: of each variable and slot of a divided table the blocks that the rank holds are read, by range,
from where the checkpoint lies, to where they're for, some rows at a time; nothing of the others'
comes here. Each block is read by itself, so that all who hold it read the same bytes. What a
checkpoint lacks is told, and made by ``first_rows``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from orchestrator.errors import GraphMismatch
from orchestrator.graph.loading import Loading
from orchestrator.graph.worker_graph import Variable, WorkerGraph
from orchestrator.graph.worker_tables import Block, ShardedPart
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.folded import Folded
from orchestrator.store.bundle.joint_crc import PartRead
from orchestrator.store.bundle.partitions import whole_extents
from orchestrator.store.bundle.row_reader import READERS, REQUEST_BYTES, RowReader, checked
from orchestrator.store.bundle.slice_keys import Extents, extents_of_spec
from orchestrator.store.objects.location import FileInfo
from orchestrator.training.engine.tensorflow import tf
from orchestrator.training.state.bundle_keys import checkpoint_keys
from orchestrator.training.state.host_buffers import aligned
from orchestrator.training.state.session_rows import Rows, SessionRows

READ_BYTES = READERS * REQUEST_BYTES
"""Of rows at once: as many requests go side by side."""
Room = Callable[[str, tuple[int, ...], np.dtype], Rows]
"""Where the rows of a variable go, by its name, their shape and dtype."""


@dataclass(frozen=True)
class StoredRows:
    """A checkpoint where it lies, and whose rows are wanted.

    Attributes:
        index, files: as ``RowReader`` takes them.
        share: rank and world size.
        folded: the same, where it holds changed rows only.
    """

    index: BundleIndex
    files: Sequence[FileInfo]
    share: tuple[int, int]
    folded: Folded | None = None

    @property
    def reader(self) -> RowReader | Folded:
        """Reads rows of its tensors."""
        return RowReader(self.index, self.files) if self.folded is None else self.folded

    def blocks(self, part: ShardedPart) -> tuple[Block, ...]:
        """The rows of a part that are wanted, as they are to lie."""
        return part.held(*self.share)


@dataclass
class Blocks:
    """What was read.

    Attributes:
        rows: variable to its rows of the blocks; those that the checkpoint lacks aren't set.
        missing: variables of which the checkpoint has nothing.
        had: variable to how many of all its rows the checkpoint has, where it lacks some of the
            blocks'.
        reads: what was read of pieces that the ranks read together.
    """

    rows: dict[str, Rows] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    had: dict[str, int] = field(default_factory=dict)
    reads: list[PartRead] = field(default_factory=list)


def read_blocks(graph: WorkerGraph, stored: StoredRows, loading: Loading, room: Room) -> Blocks:
    """The rank's blocks of each variable of the graph's divided tables.

    Args:
        room: asked for each in turn.

    Raises:
        CorruptCheckpoint: a piece isn't what was saved.
        GraphMismatch: a tensor has another shape or type than the graph's variable.
        SourceError, StorageUnavailable: it can't be read.
    """
    reader = stored.reader
    every = {variable.name: variable for variable in graph.variables}
    keys = checkpoint_keys(graph)
    blocks = Blocks()
    for part in graph.tables.parts:
        held = stored.blocks(part)
        for name in part.members:
            variable = every[name]
            key = loading.stored(keys[name])
            tensor = None if name in loading.anew else stored.index.entries.get(key)
            place = _Place.of(part, variable, tensor, grown=name in loading.grown)
            count = sum(end - first for first, end in held)
            rows = room(name, (count, *place.row_shape), _dtype(variable))
            at = 0
            for first, end in held:
                there = max(0, min(end, place.rows) - first)
                if tensor is not None and there:
                    blocks.reads += _read_some(reader, key, place, rows, (at, at + there), first)
                at += end - first
            if tensor is None:
                blocks.missing.add(name)
            if any(end > place.rows for _, end in held):
                blocks.had[name] = place.rows
            blocks.rows[name] = rows
    return blocks


@dataclass(frozen=True)
class _Place:
    """Where a variable lies in its tensor.

    Attributes:
        rows: how many of the variable's the tensor has.
        extents: of the variable in the tensor; those behind the first say which part of a row.
        shape: of the tensor.
    """

    rows: int
    extents: Extents
    shape: tuple[int, ...]

    @property
    def row_shape(self) -> tuple[int, ...]:
        return tuple(length for _, length in self.extents[1:])

    @classmethod
    def of(
        cls, part: ShardedPart, variable: Variable, tensor: BundleTensor | None, *, grown: bool
    ) -> _Place:
        shape = (part.rows, *(size or 0 for size in (variable.shape or ())[1:]))
        if tensor is None:
            return cls(0, whole_extents((), shape), shape)
        saved, extents = extents_of_spec("" if grown else variable.slice_spec)
        expected = saved or shape
        longer = grown and len(tensor.shape) == len(shape) and tensor.shape[1:] == shape[1:]
        if tensor.dtype != variable.dtype or not (longer or tensor.shape == expected):
            raise GraphMismatch(
                f"{variable.name} is {variable.dtype} {list(expected)} in the graph, and "
                f"{tensor.key} {tensor.dtype} {list(tensor.shape)} in the checkpoint",
                remedy="Resume from a checkpoint that this graph wrote",
            )
        if longer and tensor.shape[0] > part.rows:
            raise GraphMismatch(
                f"the checkpoint has {tensor.shape[0]} rows of {variable.name}, the graph {part.rows}",
                remedy=f"Give --grow {variable.name}={tensor.shape[0]}: rows aren't taken away",
            )
        rows = tensor.shape[0] if longer else part.rows
        return cls(rows, whole_extents(extents, tensor.shape), tensor.shape)


def _read_some(
    reader: RowReader | Folded, key: str, place: _Place, rows: Rows, at: Block, first: int
) -> list[PartRead]:
    """Sets the rows of ``at``, of which the first is the variable's row ``first``."""
    begin, end = at
    if not isinstance(rows, SessionRows):
        return _read(reader, key, place, rows[begin:end], first)
    buffer: np.ndarray | None = None
    reads: list[PartRead] = []
    for low, high in rows.portions(READ_BYTES, at):
        if buffer is None:
            buffer = aligned((high - low, *rows.shape[1:]), rows.dtype)
        portion = buffer[: high - low]
        reads += _read(reader, key, place, portion, first + low - begin)
        rows[low:high] = portion
    return checked(reads)


def _read(
    reader: RowReader | Folded, key: str, place: _Place, into: np.ndarray, first: int
) -> list[PartRead]:
    """Reads as many rows as ``into`` has, from the variable's row ``first`` on."""
    begin = place.extents[0][0] + first
    if place.row_shape == place.shape[1:]:
        return reader.read(key, begin, begin + len(into), into.reshape(-1).view(np.uint8).data)
    # A part of each row: TensorFlow's partitioners can cut along any axis
    wide = np.empty((len(into), *place.shape[1:]), into.dtype)
    reads = reader.read(key, begin, begin + len(into), wide.reshape(-1).view(np.uint8).data)
    own = tuple(slice(start, start + length) for start, length in place.extents[1:])
    into[...] = wide[(slice(None), *own)]
    return reads


def _dtype(variable: Variable) -> np.dtype:
    kind: type = tf.as_dtype(variable.dtype).as_numpy_dtype
    return np.dtype(kind)


def keys_of_rest(graph: WorkerGraph, index: BundleIndex, loading: Loading) -> frozenset[str]:
    """The checkpoint's tensors that the graph takes whole."""
    keys: Mapping[str, str] = checkpoint_keys(graph)
    variables = {
        loading.stored(key) for name, key in keys.items() if name not in graph.tables.members
    }
    entries = {entry.key for entry in graph.saver_entries}
    return frozenset((variables | entries) & index.entries.keys())
