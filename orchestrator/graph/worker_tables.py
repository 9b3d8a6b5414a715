"""Which rows of which tables does a worker hold, and where do the rows of others come into its
graph?

Rule: a part of ``worker_graph``: plain data that pickles; no protos, no TensorFlow. A graph with
sharded tables says nothing of how many workers there are: each holds one range of rows, its own block
and with copies the blocks behind it, and is told at every step where it begins::

    ids (of all lookups) ─► exchange ─► owners' rows ─► exchange ─► rows, positions
                                                                     │ fed
    forward, gradients ◄─────────────────────────────────────────────┘
         │ all rows of all slots, as without sharding
         ▼
    optimizer ─► of what it would write, the rows that this worker holds
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.decide.spans import held

Block = tuple[int, int]
"""The first row, and the one behind the last."""


@dataclass(frozen=True)
class FirstRows:
    """How the initial values of any rows of a variable are computed, without those of the others.

    Attributes:
        value: the tensor that gives them, of as many rows as are fed.
        shapes: tensors that say how many rows are wanted, and what follows their number there.
        numbers: constants in whose place as many rows are fed: the shape of a row, and the number
            that all of it is.
        reads: tensors in whose place rows of another variable are fed, and that one's name.
        draws: the rows are drawn one after the other, so that who wants the last draws them all.
    """

    value: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    numbers: tuple[tuple[str, tuple[int, ...], float], ...] = ()
    reads: tuple[tuple[str, str], ...] = ()
    draws: bool = False


@dataclass(frozen=True)
class RowWrite:
    """By what a step writes some rows of a variable.

    Attributes:
        member: the variable, one of ``ShardedPart.members``.
        rows: tensor ``[rows]`` of an integer type that tells which, counted from the first row of
            the worker's block; it's computed with the update, from the indices of all slots.
        targets: numbers of the train operations that do.
    """

    member: str
    rows: str
    targets: tuple[int, ...]


@dataclass(frozen=True)
class ShardedPart:
    """A table, or one part of a partitioned one, of which each worker holds a block of rows.

    Attributes:
        table: as the checkpoint calls it.
        variable: its node; ``members`` are that and its slots.
        rows: of all workers together; ``row_shape`` is that of each in the variable.
        first, count: placeholders, int64 scalars: which row is the first that the worker holds, and
            how many it holds. Behind the last row of all comes the first.
        copies: how many workers hold each row, where there are so many.
        initial: of each of ``members``; None where its rows can't be computed one without another.
        written: all updates by row; ``rewritten`` the members that a step also writes as a block.
    """

    table: str
    variable: str
    members: tuple[str, ...]
    rows: int
    row_shape: tuple[int, ...]
    first: str
    count: str
    copies: int = 1
    initial: tuple[FirstRows | None, ...] = ()
    written: tuple[RowWrite, ...] = ()
    rewritten: tuple[str, ...] = ()

    def block(self, rank: int, world_size: int) -> Block:
        """The rows that a rank owns: as many as each other, or one less."""
        return self.rows * rank // world_size, self.rows * (rank + 1) // world_size

    def held(self, rank: int, world_size: int) -> tuple[Block, ...]:
        """The blocks that a rank holds, in the order in which its rows lie: the one that it owns
        first.
        """
        return tuple(span.of(self.rows) for span in held((rank, world_size), self.copies))


@dataclass(frozen=True)
class Lookup:
    """A node that takes rows before the gradients.

    Attributes:
        ids: tensor that says which rows, of any shape.
        positions: placeholder that takes its place: where in the rows that are fed each one stands.
        coordinates: the last axis of ``ids`` counts along the axes of the table, the rows first.
        targets: numbers of the train operations that need it.
    """

    node: str
    ids: str
    positions: str
    coordinates: bool
    targets: tuple[int, ...]


@dataclass(frozen=True)
class TableRead:
    """What lookups take rows of: a part of a table, or what follows from that row by row.

    Attributes:
        part: number of the part.
        wanted: placeholder, int64 ``[rows]``: which rows of its block the owner is to give.
        fetch: the tensor that gives them, ``[rows, *row_shape]``.
        rows: placeholder in the table's place, for as many rows as a batch wants.
    """

    part: int
    wanted: str
    fetch: str
    rows: str
    lookups: tuple[Lookup, ...]


@dataclass(frozen=True)
class Drawn:
    """A tensor that is drawn for each batch, once, before its ids are known.

    Attributes:
        feed: the placeholder through which all take it.
        targets: numbers of the train operations that need it.
    """

    fetch: str
    feed: str
    targets: tuple[int, ...]


@dataclass(frozen=True)
class ShardedTables:
    """All tables of a graph of which each worker holds some rows.

    Attributes:
        fewest: workers that it takes, since fewer have no room for all rows; 1 where that isn't known.
        copies: how many workers hold each row, where there are so many.
    """

    parts: tuple[ShardedPart, ...] = ()
    reads: tuple[TableRead, ...] = ()
    drawn: tuple[Drawn, ...] = ()
    fewest: int = 1
    copies: int = 1

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def members(self) -> frozenset[str]:
        """Variables of which each worker has other rows."""
        return frozenset(name for part in self.parts for name in part.members)

    @property
    def names(self) -> tuple[str, ...]:
        """The tables, as the checkpoint calls them."""
        return tuple(dict.fromkeys(part.table for part in self.parts))

    def part_of(self, variable: str) -> ShardedPart | None:
        """The part that a variable or slot belongs to."""
        return next((part for part in self.parts if variable in part.members), None)


NO_TABLES = ShardedTables()
