"""What are rows of divided tables on their way from one worker's memory to another's?

Rule: plain data that pickles without a copy, no TensorFlow. Each piece carries its checksum, which
the taker compares before it sets anything. Where a row has come from nobody, nothing is made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.errors import CorruptState
from orchestrator.graph.worker_tables import Block, ShardedTables
from orchestrator.store.objects.traffic import MOVED
from orchestrator.training.state.state import State, array_checksum

_REMEDY = "Nothing: the group is formed anew; where it happens again, look at the machine's memory and network"


@dataclass(frozen=True)
class NumberedRows:
    """Some rows of a variable that follow each other.

    Attributes:
        first: number of the first one in the whole variable.
        values: ``[rows, *row_shape]``.
    """

    first: int
    values: np.ndarray

    @property
    def end(self) -> int:
        """Number of the row behind the last."""
        return self.first + len(self.values)

    def within(self, block: Block) -> NumberedRows:
        """Those that fall into a block, where they lie."""
        first, end = max(self.first, block[0]), min(self.end, block[1])
        return NumberedRows(first, self.values[first - self.first : max(end, first) - self.first])


@dataclass(frozen=True)
class RowPiece:
    """Rows of one variable, with their checksum as their giver had them."""

    variable: str
    rows: NumberedRows
    crc32c: int

    @classmethod
    def of(cls, variable: str, rows: NumberedRows) -> RowPiece:
        """A copy of rows that may change."""
        kept = NumberedRows(rows.first, np.array(rows.values))
        MOVED.add(kept.values.nbytes)
        return cls(variable, kept, array_checksum(kept.values))


def laid_out(held: np.ndarray, blocks: Iterable[Block]) -> list[NumberedRows]:
    """The rows that are held block by block, by their numbers."""
    found, at = [], 0
    for first, end in blocks:
        found.append(NumberedRows(first, held[at : at + end - first]))
        at += end - first
    return found


def block_checksums(state: State, tables: ShardedTables) -> dict[str, int]:
    """crc32c of each block that is held of each variable, under a name that all who hold it give;
    where all of it was copied.
    """
    found: dict[str, int] = {}
    some = state.changed or {}
    if tables.copies == 1 or state.share is None or state.share[1] == 1:
        return found  # nobody has the same
    for part in tables.parts:
        for name in part.members:
            if name in state.arrays and name not in some:
                for rows in laid_out(state.arrays[name], part.held(*state.share)):
                    of = f"rows {rows.first} to {rows.end} of {name}"
                    found[of] = array_checksum(rows.values)
    return found


def compare(given: Iterable[RowPiece]) -> None:
    """Whether what has come is what was given. Raises CorruptState."""
    damaged = sorted(
        {piece.variable for piece in given if array_checksum(piece.rows.values) != piece.crc32c}
    )
    if damaged:
        raise CorruptState(
            f"rows of {len(damaged)} variables that came from peers arrived damaged, {damaged[0]} among them",
            remedy=_REMEDY,
            details={"variables": damaged[:20]},
        )


def fill(
    variable: str, into: np.ndarray, blocks: Iterable[Block], known: Sequence[NumberedRows]
) -> None:
    """Set all rows of some blocks, one behind the other, from those that are known.

    Raises:
        CorruptState: some are known from nobody.
    """
    at = 0
    for first, end in blocks:
        row = first
        for rows in sorted((each.within((first, end)) for each in known), key=_first):
            if rows.first > row:
                break
            new = rows.within((row, end))
            into[at + row - first : at + new.end - first] = new.values
            row = max(row, new.end)
        if row < end:
            raise CorruptState(
                f"row {row} of {variable} has come from nobody",
                remedy=_REMEDY,
                details={"variables": [variable]},
            )
        at += end - first


def _first(rows: NumberedRows) -> int:
    return rows.first
