"""Which tables of a run are divided among its workers?

Rule: what ``--shard-tables`` says. A name that can't be divided is refused with the node that is
against it. ``auto`` takes the largest tables first, until what a worker has to hold fits into what it
may have, and says so. Who is alone has nobody to divide anything with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches

from orchestrator.config import AUTO, NONE, RunConfig
from orchestrator.graph.problem import Problem
from orchestrator.graph.tables.find import RowTable
from orchestrator.graph.tables.sharding import (
    Shardable,
    find_shardable,
    rows_at_once,
    shard_tables,
)
from orchestrator.graph.tables.shares import Shares, memory_of_worker, shares
from orchestrator.graph.tables.wholes import NeededWhole
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.graph.variables.memory import FreeMemory, in_words
from orchestrator.graph.worker_graph import Variable, WorkerGraph
from orchestrator.vocabulary import SLICEABLE

NAMES = 4
"""Tables named in one line."""


@dataclass(frozen=True)
class Divided:
    """A graph with the tables divided that were asked for.

    Attributes:
        graph: None where a problem refuses what was asked for.
        held: the variables as the worker that has most of them holds them.
    """

    graph: WorkerGraph | None
    held: tuple[Variable, ...]
    problems: tuple[Problem, ...] = ()


def divide_tables(
    graph: WorkerGraph,
    config: RunConfig,
    memory: FreeMemory | None,
    checkpoint: CheckpointKeys | None = None,
) -> Divided:
    """The graph as ``config`` wants its tables.

    Args:
        graph: ready to train, with all tables whole.
        checkpoint: what the checkpoint holds that it starts from; None where that isn't known.
        memory: what the workers have; None where that isn't known.
    """
    whole, asked = Divided(graph, graph.variables), config.shard_tables
    if not asked or NONE in asked:
        if (config.table_copies or 1) == 1:
            return whole
        said = "--table-copies has no meaning where no table is divided: each worker holds all rows"
        remedy = "Give --shard-tables too, or leave it out"
        return Divided(None, graph.variables, (_refused(said, remedy),))
    if graph.group_refused:
        return whole
    if config.workers.largest < 2:
        said = "--shard-tables changes nothing: one worker holds all rows of every table"
        return replace(
            whole, problems=(Problem("tables-sharded", "warning", said, "Give more --workers"),)
        )
    if config.exchange == "nccl":
        said = "--shard-tables has no meaning with --exchange nccl, which moves no rows of tables"
        return Divided(None, graph.variables, (_refused(said, "Use --exchange host"),))
    found = find_shardable(graph)
    asking = _Asking(graph, config, found, checkpoint, memory_of_worker(config, memory))
    if AUTO in asked:
        return _automatic(asking)
    chosen = [asking.named(name) for name in asked]
    refused = tuple(one for one in chosen if isinstance(one, Problem))
    if refused:
        return Divided(None, graph.variables, refused)
    tables = dict.fromkeys(one.name for one in chosen if isinstance(one, RowTable))
    return asking.divided(tables, "as asked")


def _automatic(asking: _Asking) -> Divided:
    graph, config, may_have = asking.graph, asking.config, asking.may_have
    whole = Divided(graph, graph.variables)
    if may_have is None:
        said = "--shard-tables auto divides nothing: how much memory a worker may have isn't known"
        remedy = "Give --workers.memory-bytes, or name the tables"
        return replace(whole, problems=(Problem("tables-sharded", "warning", said, remedy),))
    count, gpu = config.workers.count, config.workers.gpus > 0
    chosen: list[str] = []
    for table in asking.shares().tables:  # the largest first
        if asking.shares(chosen).host_bytes(count, gpu=gpu) <= may_have:
            break
        if asking.against(asking.tables[table.name]) is None:
            chosen.append(table.name)
    if not chosen:
        return whole
    return asking.divided(chosen, f"a worker may have {in_words(may_have)}")


@dataclass(frozen=True)
class _Asking:
    graph: WorkerGraph
    config: RunConfig
    found: Shardable
    checkpoint: CheckpointKeys | None
    may_have: int | None

    @property
    def copies(self) -> int:
        """How many workers are to hold each row."""
        return self.config.table_copies or 1

    @property
    def tables(self) -> dict[str, RowTable]:
        return {table.name: table for table in self.found.tables}

    def shares(self, names: Iterable[str] | None = None) -> Shares:
        """Of all tables, or of some."""
        chosen = self.found.tables if names is None else [self.tables[name] for name in names]
        return shares(Shardable(tuple(chosen), {}), self.graph.variables, self.copies)

    def divided(self, names: Iterable[str], why: str) -> Divided:
        """The graph with these tables divided."""
        names, workers = list(names), self.config.workers.largest
        found = self.shares(names)
        shown = ", ".join(names[:NAMES]) + (
            f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
        )
        twice = ", each row held by two" if self.copies > 1 else ""
        said = (
            f"divided by row among the workers ({why}){twice}: {shown}; each of {workers} holds at most "
            f"{in_words(found.of_worker(workers))} of the state's {in_words(found.of_worker(1))}"
        )
        graph = shard_tables(self.graph, [self.tables[name] for name in names], self.copies)
        graph = replace(graph, tables=replace(graph.tables, fewest=self._fewest(found)))
        told = Problem("tables-sharded", "warning", said, "--shard-tables none leaves them whole")
        return Divided(graph, tuple(found.divided(workers)), (told,))

    def _fewest(self, found: Shares) -> int:
        """Workers without which there's no room; no more than the run begins with."""
        if self.may_have is None:
            return 1
        enough = found.smallest_group(self.may_have, gpu=self.config.workers.gpus > 0)
        count = self.config.workers.count
        return count if enough is None else min(enough, count)

    def named(self, name: str) -> RowTable | Problem:
        """The table that the user calls so, or why it can't be divided."""
        for table in self.found.tables:
            if name in self._names_of(table):
                return self.against(table) or table
            of = [part.variable for part in table.parts if name in part.slots]
            if of:
                said = f"--shard-tables {name}: it's a slot of {of[0]}, and goes where that goes"
                return _refused(said, f"Name {table.name}")
        variable = self._variable(name)
        why = None if variable is None else self.found.wholes.get(variable.name)
        if why is not None:
            return _whole(name, why)
        if variable is not None:
            said = f"--shard-tables {name}: a step looks up no rows of it"
            return _refused(said, _leave_out(name), (variable.name,))
        names = sorted({*self._all_names()})
        near = get_close_matches(name, names, 3, 0.5) or sorted(self.tables)[:3]
        remedy = (
            f"There are {', '.join(near)}" if near else "This graph has no tables: leave it out"
        )
        return _refused(f"--shard-tables {name}: the graph has no variable of that name", remedy)

    def against(self, table: RowTable) -> Problem | None:
        """What of a table itself is against dividing it in this run."""
        workers = self.config.workers.largest
        few = [part for part in table.parts if part.rows < workers]
        if few:
            said = f"--shard-tables {table.name}: {few[0].variable} has {few[0].rows} rows, too few for {workers} workers"
            return _refused(said, _leave_out(table.name), (few[0].variable,))
        members = {name for part in table.parts for name in (part.variable, *part.slots)}
        begun = []
        for one in self.graph.variables:
            if one.name in members and one.dtype not in SLICEABLE:
                said = f"--shard-tables {table.name}: {one.name} is {one.dtype}, of which TensorFlow restores no slices"
                return _refused(said, _leave_out(table.name), (one.name,))
            if one.name in members and self._is_made(one):
                begun.append(one.name)
        at_once = rows_at_once(self.graph, table, begun) if begun else None
        if at_once is not None:
            said = (
                f"--shard-tables {table.name}: rows of {at_once.variable} have to be initialised, and "
                f"{at_once.node} ({at_once.op}) {at_once.why}"
            )
            remedy = "Train one step without --shard-tables, where a worker has room for all rows; go on from what that saves"
            return _refused(said, remedy, (at_once.node,))
        return None

    def _is_made(self, one: Variable) -> bool:
        """Whether the start has to initialise rows of it."""
        loading, checkpoint = self.graph.loading, self.checkpoint
        lacking = checkpoint is not None and (one.key or one.name) not in checkpoint
        return lacking or one.name in loading.anew or one.name in loading.grown

    def _names_of(self, table: RowTable) -> set[str]:
        names = {table.name, *(part.variable for part in table.parts)}
        return names | {self._bare(one) for one in names}

    def _variable(self, name: str) -> Variable | None:
        return next(
            (
                one
                for one in self.graph.variables
                if name in (one.name, one.key, self._bare(one.name))
            ),
            None,
        )

    def _all_names(self) -> Iterator[str]:
        yield from self.tables
        for one in self.graph.variables:
            if one.slot_of is None:
                yield one.key or self._bare(one.name)

    def _bare(self, name: str) -> str:
        scope = self.config.import_scope
        return name.removeprefix(f"{scope.rstrip('/')}/") if scope else name


def _whole(name: str, why: NeededWhole) -> Problem:
    of = "" if why.variable == name else f" ({why.variable})"
    said = f"--shard-tables {name}: it's needed whole{of}: {why.node} ({why.op}) {why.why}"
    return _refused(said, _leave_out(name), (why.node,))


def _leave_out(name: str) -> str:
    return f"Leave {name} out, or give --shard-tables none: each worker holds all of it then"


def _refused(said: str, remedy: str, nodes: tuple[str, ...] = ()) -> Problem:
    return Problem("not-shardable", "error", said, remedy, nodes)
