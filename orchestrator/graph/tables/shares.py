"""What would a worker hold if each had some rows of every table, and how many workers does it take?

Rule: counted as ``variables.memory`` counts. Every worker holds what can't be divided, and of each
table, optimizer slots included, its block of rows and its copies of others'; the one with most rows
decides. A run is told of
the workers that its configuration asks for, and of the memory that it reserves for each, or else of
what there is here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.graph.tables.find import RowTable
from orchestrator.graph.tables.sharding import Shardable, find_shardable
from orchestrator.graph.tables.wholes import NeededWhole
from orchestrator.graph.variables.memory import FreeMemory, memory_need, variable_bytes
from orchestrator.graph.worker_graph import Variable, WorkerGraph

MANY = 4096
"""Workers up to which it's asked how many it takes: no run has more."""
SIZES = (2, 4, 8, 16)
"""Workers for which it's told how much each would hold."""


@dataclass(frozen=True)
class TableShare:
    """A table of which each worker could hold some rows.

    Attributes:
        rows: of all workers together; ``parts`` variables hold them in the graph.
        row_shape, dtype: of the table itself.
        slots: variables of each part that have a row for each of its rows.
        size_bytes: slots included.
    """

    name: str
    rows: int
    row_shape: tuple[int, ...]
    dtype: str
    parts: int
    slots: int
    size_bytes: int


@dataclass(frozen=True)
class NoTable:
    """A variable with rows that each worker has to hold, and the node that needs all of it."""

    name: str
    size_bytes: int
    node: str
    op: str
    why: str


@dataclass(frozen=True)
class Shares:
    """What of a state could be divided.

    Attributes:
        tables, wholes: the largest first.
        variables: of the whole graph; ``members`` the tables' rows, by the variables' names.
        copies: how many workers hold each row.
    """

    tables: tuple[TableShare, ...]
    wholes: tuple[NoTable, ...]
    variables: tuple[Variable, ...]
    members: dict[str, int]
    copies: int = 1

    def of_worker(self, workers: int) -> int:
        """Bytes of state that each of so many workers holds at most."""
        return sum(variable_bytes(one) or 0 for one in self.divided(workers))

    def host_bytes(self, workers: int, *, gpu: bool) -> int:
        """Host memory that each of so many workers needs at least."""
        rows = self.members if workers > 1 else ()  # who is alone divides nothing
        return memory_need(self.divided(workers), gpu=gpu, rows=rows).host_bytes

    def smallest_group(self, host_bytes: int, *, gpu: bool) -> int | None:
        """How many workers it takes so that none needs more than this; None where no number does."""
        most = min((MANY, *self.members.values()))
        if self.host_bytes(most, gpu=gpu) > host_bytes:
            return None
        few, enough = 0, most  # more workers never need more each
        while enough - few > 1:
            middle = (few + enough) // 2
            if self.host_bytes(middle, gpu=gpu) <= host_bytes:
                enough = middle
            else:
                few = middle
        return enough

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        twice = replace(self, copies=2)
        return {
            "tables": [asdict(table) for table in self.tables],
            "whole": [asdict(one) for one in self.wholes],
            "state_bytes": self.of_worker(1),
            "state_bytes_by_workers": {str(size): self.of_worker(size) for size in SIZES},
            "state_bytes_by_workers_with_copies": {
                str(size): twice.of_worker(size) for size in SIZES
            },
        }

    def divided(self, workers: int) -> list[Variable]:
        """The variables as the one of so many workers holds them that has most rows."""
        return [
            replace(one, shape=(self._rows(one.name, workers), *(one.shape or ())[1:]))
            if one.name in self.members
            else one
            for one in self.variables
        ]

    def _rows(self, name: str, workers: int) -> int:
        rows = self.members[name]
        return min(rows, self.copies * -(-rows // workers))


def shares(found: Shardable, variables: Iterable[Variable], copies: int = 1) -> Shares:
    """What could be divided of a state that has these variables, each row held by so many."""
    every = {one.name: one for one in variables}
    members = {
        name: part.rows
        for table in found.tables
        for part in table.parts
        for name in (part.variable, *part.slots)
    }
    wholes = [_whole(every[name], why) for name, why in found.wholes.items() if name in every]
    return Shares(
        tuple(sorted((_share(table, every) for table in found.tables), key=_by_size)),
        tuple(sorted(wholes, key=_by_size)),
        tuple(every.values()),
        members,
        copies,
    )


def _by_size(one: TableShare | NoTable) -> tuple[int, str]:
    return -one.size_bytes, one.name


def _share(table: RowTable, every: dict[str, Variable]) -> TableShare:
    names = [name for part in table.parts for name in (part.variable, *part.slots)]
    return TableShare(
        table.name,
        table.rows,
        table.row_shape,
        table.dtype,
        len(table.parts),
        len(table.parts[0].slots),
        sum(variable_bytes(every[name]) or 0 for name in names),
    )


def _whole(variable: Variable, why: NeededWhole) -> NoTable:
    return NoTable(variable.name, variable_bytes(variable) or 0, why.node, why.op, why.why)


@dataclass(frozen=True)
class Sharing:
    """A run with its tables whole, and divided.

    Attributes:
        workers: as many as the run has at most.
        whole_bytes, divided_bytes: state of a worker, of the one that has most.
        memory_bytes: what a worker may have; None where that isn't known.
        enough_workers: how many it takes until none needs more; None where no number is enough, or
            ``memory_bytes`` isn't known.
    """

    shares: Shares
    workers: int
    whole_bytes: int
    divided_bytes: int
    memory_bytes: int | None
    enough_workers: int | None

    def as_dict(self) -> dict[str, Any]:
        """As ``check --json`` prints it."""
        return {
            **self.shares.as_dict(),
            "workers": self.workers,
            "whole_bytes": self.whole_bytes,
            "divided_bytes": self.divided_bytes,
            "memory_bytes": self.memory_bytes,
            "enough_workers": self.enough_workers,
            "copies": self.shares.copies,
        }


def memory_of_worker(config: RunConfig, memory: FreeMemory | None) -> int | None:
    """Bytes that a worker may have: what is reserved for it, else its part of what there is; None
    where neither is known.
    """
    if config.workers.memory_bytes is not None or memory is None:
        return config.workers.memory_bytes
    return memory.host_bytes // max(1, memory.workers_per_node)


def sharing(graph: WorkerGraph, config: RunConfig, memory: FreeMemory | None) -> Sharing:
    """What dividing the tables would change."""
    found = shares(find_shardable(graph), graph.variables, config.table_copies or 1)
    workers, gpu = config.workers.largest, config.workers.gpus > 0
    each = memory_of_worker(config, memory)
    enough = None if each is None else found.smallest_group(each, gpu=gpu)
    return Sharing(
        *(found, workers, found.of_worker(1), found.of_worker(workers), each, enough),
    )
