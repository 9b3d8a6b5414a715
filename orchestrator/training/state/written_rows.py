"""Which rows of this worker's block has training written since a save?

Rule: a step tells, for each update by row, the rows of the block that it wrote, of all ranks' and
slots' indices: it computes them with the update itself. They are kept as bits, since the copy for a
save that may still be lost: what the next save has to hold is what was written since the last one
that was committed. A variable that a step also writes as a block has no rows of its own here, and
is saved whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from orchestrator.errors import OutputError
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.graph.worker_tables import ShardedTables
from orchestrator.store.bundle.partitions import whole_extents
from orchestrator.store.bundle.slice_keys import extents_of_spec
from orchestrator.training.state.bundle_keys import checkpoint_keys

Save = tuple[int, int]
"""``GrantOrder.save``: the driver's attempt, and the save's number."""
LOOKED_AT = 1 << 16
"""Bytes of bits that are made row numbers at once, which takes 72 times as much."""


def saved_by_row(graph: WorkerGraph) -> frozenset[str]:
    """The variables of which a save may hold some rows: those that are written by row alone, of
    tables that aren't cut across their rows, and all that one tensor of a checkpoint is made of.
    """
    keys, every = checkpoint_keys(graph), {one.name: one for one in graph.variables}
    no: set[str] = set()
    for part in graph.tables.parts:
        for name in part.members:
            whole, extents = extents_of_spec(every[name].slice_spec)
            across = whole and whole_extents(extents, whole)[1:] != whole_extents((), whole)[1:]
            if name in part.rewritten or across:
                no.add(keys[name])
    return frozenset(name for name in graph.tables.members if keys[name] not in no)


def written_rows(graph: WorkerGraph) -> WrittenRows:
    """Notes the rows of all variables that are ``saved_by_row``."""
    return WrittenRows(graph.tables, saved_by_row(graph))


class WrittenRows:
    """What a worker knows of the rows that it has written.

    Args:
        members: variables of which rows are told; all of their writes are by row.
    """

    def __init__(self, tables: ShardedTables, members: Iterable[str]) -> None:
        chosen = frozenset(members)
        self._parts = {name: part for part in tables.parts for name in part.members}
        self._of = {name: list[str]() for name in sorted(chosen)}
        self._tensors: dict[int, dict[str, str]] = {}
        for part in tables.parts:
            for each in part.written:
                if each.member in chosen:
                    self._of[each.member].append(each.rows)
                    for target in each.targets:
                        self._tensors.setdefault(target, {})[each.rows] = each.member
        self._share = (0, 1)
        self._since: dict[Save, dict[str, np.ndarray]] = {}

    @property
    def members(self) -> frozenset[str]:
        """The variables of which rows are told."""
        return frozenset(self._of)

    def tensors(self, target: int) -> tuple[str, ...]:
        """What a run of a train operation has to tell; integers ``[rows]``."""
        return tuple(self._tensors.get(target, ()))

    def forget(self) -> None:
        """The variables are about to be set: what was written until now is of no save any more."""
        self._since = {}

    def note(self, target: int, values: Mapping[str, np.ndarray]) -> None:
        """A run was applied, which gave these values of ``tensors``."""
        if not self._since:
            return
        newest = self._since[next(reversed(self._since))]
        for tensor, member in self._tensors.get(target, {}).items():
            rows = np.asarray(values[tensor], np.int64).reshape(-1)
            if tensor not in newest:
                newest[tensor] = np.zeros((self._rows(member) + 7) // 8, np.uint8)
            np.bitwise_or.at(newest[tensor], rows >> 3, (1 << (rows & 7)).astype(np.uint8))

    def changed(
        self, save: Save, over: Save | None, share: tuple[int, int]
    ) -> dict[str, np.ndarray] | None:
        """What a save has to hold whose copy is made now, between two steps.

        Args:
            over: the one that it stands on; None for a full one.
            share: rank and world size of which the block is.

        Returns:
            For each of ``members`` the rows of the block that were written since the copy for
            ``over``, int64, ascending; None for a full save.

        Raises:
            OutputError: nothing is known of ``over``.
        """
        if over is None:
            self._share, self._since = share, {save: {}}
            return None
        if over not in self._since or share != self._share:
            raise unknown(over)
        # Any other was lost: what was written since its copy isn't saved anywhere
        places = list(self._since)
        kept = self._since[over]
        for place in places[places.index(over) + 1 :]:
            for tensor, bits in self._since[place].items():
                kept[tensor] = kept[tensor] | bits if tensor in kept else bits
        found = {member: self._owned(member, kept) for member in self._of}
        self._since = {over: kept, save: {}}
        return found

    def _rows(self, member: str) -> int:
        return sum(end - first for first, end in self._parts[member].held(*self._share))

    def _owned(self, member: str, bits: Mapping[str, np.ndarray]) -> np.ndarray:
        """Without copies of others' rows, which lie behind its own."""
        first, end = self._parts[member].block(*self._share)
        numbers = self._numbers(member, bits)
        return numbers[: np.searchsorted(numbers, end - first)]

    def _numbers(self, member: str, bits: Mapping[str, np.ndarray]) -> np.ndarray:
        told = [bits[tensor] for tensor in self._of[member] if tensor in bits]
        if not told:
            return np.zeros(0, np.int64)
        return np.concatenate([np.zeros(0, np.int64), *_numbers_of(np.bitwise_or.reduce(told))])


def _numbers_of(bits: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(bits), LOOKED_AT):
        few = bits[start : start + LOOKED_AT]
        if few.any():
            yield np.flatnonzero(np.unpackbits(few, bitorder="little")) + 8 * start


def unknown(over: Save) -> OutputError:
    """The error of a save whose ground nothing was noted of."""
    return OutputError(
        f"which rows have changed since save {over[1]} isn't known here",
        remedy="Nothing was saved; a later save is a full one",
    )
