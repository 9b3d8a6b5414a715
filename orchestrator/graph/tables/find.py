"""Which variables are tables: read and written by row alone, so that each worker could hold some
rows of them?

Rule: asked of what a step runs. A table is looked up at least once; its slots are whatever is
computed row by row from it. The parts of a partitioned variable are one table, if all of them are.
For every other variable with rows there is a node that needs it whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.tables.rows import Family, RowUse, family_of
from orchestrator.graph.tables.wholes import NeededWhole
from orchestrator.graph.worker_graph import Variable


@dataclass(frozen=True)
class TablePart:
    """One variable node of a table, which is all of it where it isn't partitioned.

    Attributes:
        rows: how many it has.
        slots: variables that have a row for each of its rows and are computed row by row.
        lookups: reads of its rows before the gradients; ``updates`` all else that touches rows.
        looks: nodes that ask about it, as for its shape, and what each asks.
    """

    variable: str
    rows: int
    slots: tuple[str, ...]
    lookups: tuple[RowUse, ...]
    updates: tuple[RowUse, ...]
    looks: tuple[tuple[str, Edge], ...] = ()


@dataclass(frozen=True)
class RowTable:
    """A variable that a step only touches by row.

    Attributes:
        name: as the checkpoint calls it, or the variable's name where it isn't saved.
        row_shape: without the rows; ``dtype`` of the table, its slots may have another.
        parts: in the order of their rows.
    """

    name: str
    dtype: str
    row_shape: tuple[int, ...]
    parts: tuple[TablePart, ...]

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True)
class Tables:
    """What ``find_tables`` found.

    Attributes:
        wholes: for each other variable with rows what needs it whole, by the variable's name; slots
            aren't listed.
    """

    tables: tuple[RowTable, ...]
    wholes: Mapping[str, NeededWhole]


def find_tables(graph: Graph, variables: Iterable[Variable], targets: Iterable[str]) -> Tables:
    """The tables of a graph.

    Args:
        variables: all of the graph's.
        targets: what a step runs, summaries included where it runs those.
    """
    every = {one.name: one for one in variables}
    within = graph.view.ancestors(targets)
    after = _after_gradients(graph)
    wholes: dict[str, NeededWhole] = {}
    parts: dict[str, list[tuple[Variable, TablePart]]] = {}
    for one in every.values():
        if one.name not in within or one.slot_of is not None or not one.shape:
            continue
        slots = [other.name for other in every.values() if other.slot_of == one.name]
        found = _judged(graph, one, family_of(graph, one.name, within, slots), after)
        if isinstance(found, NeededWhole):
            wholes[one.name] = found
        else:
            parts.setdefault(one.key or one.name, []).append((one, found))
    _drop_incomplete(every.values(), parts, wholes)
    return Tables(tuple(_table(name, found) for name, found in parts.items()), wholes)


def _after_gradients(graph: Graph) -> set[str]:
    scoped = [name for name in graph.view.nodes if graph.gradient_scope(name) is not None]
    return graph.view.descendants(scoped, control=False)


def _judged(
    graph: Graph, variable: Variable, family: Family, after: set[str]
) -> TablePart | NeededWhole:
    if family.wholes:
        # A model's own computation tells more than the update that follows from it
        return min(
            family.wholes, key=lambda one: (one.node in after, graph.traits(one.node).writes)
        )
    lookups = [read for read in family.reads if read.node not in after]
    if not lookups or variable.shape is None or None in variable.shape:
        why = "nothing looks up rows of it" if not lookups else "how many rows it has isn't known"
        return NeededWhole(variable.name, variable.name, graph.view.op(variable.name), why)
    updates = [*(read for read in family.reads if read.node in after), *family.writes]
    return TablePart(
        variable.name,
        variable.shape[0] or 0,
        tuple(family.members[1:]),
        tuple(lookups),
        tuple(updates),
        tuple(family.looks),
    )


def _drop_incomplete(
    variables: Iterable[Variable],
    parts: dict[str, list[tuple[Variable, TablePart]]],
    wholes: dict[str, NeededWhole],
) -> None:
    """A table of which one part is needed whole isn't one."""
    for one in variables:
        name = one.key or one.name
        why = wholes.get(one.name)
        if why is not None and name in parts:
            wholes.update((part.variable, why) for _, part in parts.pop(name))


def _table(name: str, found: list[tuple[Variable, TablePart]]) -> RowTable:
    ordered = sorted(found, key=lambda pair: _first_row(pair[0]))
    first = ordered[0][0]
    shape = tuple(size or 0 for size in first.shape or ())
    return RowTable(name, first.dtype, shape[1:], tuple(part for _, part in ordered))


def _first_row(variable: Variable) -> int:
    """Where a part's rows begin in the whole, from its slice (``20 8 10,10:0,8``)."""
    first = variable.slice_spec.rpartition(" ")[2].partition(":")[0]
    return int(first.partition(",")[0]) if "," in first else 0
