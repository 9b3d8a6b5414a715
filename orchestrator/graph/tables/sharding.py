"""How does a graph get along with some rows of its tables?

Rule: proto surgery on a graph that is ready to train, with its seams. Lookups take rows that are
fed in place of the table, and positions in place of ids. All that stands between the lookups and
the updates stays as it is and sees every row of the batch, so sums, clipping and whatever else is
done with gradients give the same bits; an update writes only what falls into this worker's range.
What is computed row by row over a whole table runs on the range, which is all that there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.flow import read_flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet, merged
from orchestrator.graph.graphdef.view import parse_tensor
from orchestrator.graph.tables.draws import drawn_above, feed_drawn
from orchestrator.graph.tables.find import RowTable, TablePart, find_tables
from orchestrator.graph.tables.first_rows import first_rows
from orchestrator.graph.tables.obstacles import Step, obstacle
from orchestrator.graph.tables.row_inputs import LookupWriter
from orchestrator.graph.tables.row_updates import UpdateWriter
from orchestrator.graph.tables.wholes import NeededWhole
from orchestrator.graph.tables.written_shapes import forget_rows
from orchestrator.graph.worker_graph import Variable, WorkerGraph
from orchestrator.graph.worker_tables import (
    Drawn,
    FirstRows,
    RowWrite,
    ShardedPart,
    ShardedTables,
)


@dataclass(frozen=True)
class Shardable:
    """Which variables of a graph each worker could hold some rows of.

    Attributes:
        tables: those; ``wholes`` has for each other variable with rows the node that needs all of
            it, by the variable's name, slots left out.
    """

    tables: tuple[RowTable, ...]
    wholes: Mapping[str, NeededWhole]


def find_shardable(graph: WorkerGraph) -> Shardable:
    """What of a graph that is ready to train can be sharded."""
    editor, ops = _opened(graph)
    return _found(editor.graph(ops), graph)


def shard_tables(graph: WorkerGraph, tables: Iterable[RowTable], copies: int = 1) -> WorkerGraph:
    """The graph in which each worker holds a range of the rows of ``tables``, and which shows no
    summaries of them as a whole.

    Args:
        tables: some of ``find_shardable``'s.
        copies: how many workers hold each row.
    """
    editor, ops = _opened(graph)
    chosen, targets = tuple(tables), [target.op for target in graph.targets]
    drawn = _draw_first(editor, editor.graph(ops), graph, chosen)
    before = editor.graph(ops)
    for table in chosen:
        for part in table.parts:
            forget_rows(editor, before, _members(part), part.rows)
    lookups = LookupWriter(editor, before, targets)
    parts: list[ShardedPart] = []
    for table in chosen:
        for part in table.parts:
            lookups.write(len(parts), part)
            divided = _divided(editor, before, len(parts), table, part, targets)
            initial = _initial(before, graph.variables, part)
            parts.append(replace(divided, initial=initial, copies=copies))
    sharded = ShardedTables(tuple(parts), lookups.reads(), drawn, copies=copies)
    variables = tuple(
        replace(one, shape=(None, *(one.shape or ())[1:])) if one.name in sharded.members else one
        for one in graph.variables
    )
    return replace(
        graph,
        meta=editor.meta.SerializeToString(),
        variables=variables,
        tables=sharded,
        scalar_summaries=_without_whole_tables(before, graph.scalar_summaries, chosen),
    )


def _draw_first(
    editor: Editor, before: Graph, graph: WorkerGraph, tables: Iterable[RowTable]
) -> tuple[Drawn, ...]:
    parts = [part for table in tables for part in table.parts]
    ids = [use.indices.node for part in parts for use in part.lookups if use.indices is not None]
    names = drawn_above(before, ids, frozenset(map(_node, _fed(graph))))
    return feed_drawn(editor, before, names, [target.op for target in graph.targets])


def _divided(
    editor: Editor,
    graph: Graph,
    number: int,
    table: RowTable,
    part: TablePart,
    targets: Sequence[str],
) -> ShardedPart:
    """Change the variables of a part, and what updates them."""
    updates = UpdateWriter(editor, graph, number, part.rows, table.row_shape)
    updates.write(part)
    members = _members(part)
    for name in members:
        # Of no stated rank: a variable with a reference takes no half-known shape, and one without
        # any takes whatever is assigned
        shape = editor.node(name).attr["shape"].shape
        shape.Clear()
        shape.unknown_rank = True
    first, count = updates.first.tensor, updates.count.tensor
    return ShardedPart(
        *(table.name, part.variable, members, part.rows, table.row_shape, first, count),
        written=_written(graph, updates, targets),
        rewritten=tuple(dict.fromkeys(use.variable for use in part.updates if use.indices is None)),
    )


def _written(graph: Graph, updates: UpdateWriter, targets: Sequence[str]) -> tuple[RowWrite, ...]:
    """Which rows of which variable each train operation writes."""
    runs = [graph.view.ancestors([target]) for target in targets]
    found: dict[tuple[str, str], set[int]] = {}
    for use, rows in updates.written:
        of = {number for number, within in enumerate(runs) if use.node in within}
        found.setdefault((use.variable, rows.tensor), set()).update(of)
    return tuple(RowWrite(*place, tuple(sorted(of))) for place, of in found.items())


def _initial(
    graph: Graph, variables: Iterable[Variable], part: TablePart
) -> tuple[FirstRows | None, ...]:
    """How rows of each of a part's members begin."""
    members, every = _members(part), {one.name: one for one in variables}
    found = [first_rows(graph, every[name], part.rows, members) for name in members]
    return tuple(one if isinstance(one, FirstRows) else None for one in found)


def rows_at_once(graph: WorkerGraph, table: RowTable, names: Iterable[str]) -> NeededWhole | None:
    """Which of these variables of a table can only be initialised as a whole, and by what.

    Args:
        graph: with that table whole.
    """
    editor, ops = _opened(graph)
    view, every = editor.graph(ops), {one.name: one for one in graph.variables}
    wanted = frozenset(names)
    for part in table.parts:
        members = _members(part)
        for name in members:
            found = first_rows(view, every[name], part.rows, members) if name in wanted else None
            if isinstance(found, NeededWhole):
                return found
    return None


def _opened(graph: WorkerGraph) -> tuple[Editor, OpSet]:
    meta = MetaGraphDef.FromString(graph.meta)
    return Editor(meta), merged(meta)


def _found(view: Graph, graph: WorkerGraph) -> Shardable:
    shown = [*graph.losses, *([] if graph.weight is None else [graph.weight])]
    starts = [*(target.op for target in graph.targets), *map(_node, shown)]
    return shardable_in(view, graph.variables, starts, _seams(graph), map(_node, _fed(graph)))


def shardable_in(
    graph: Graph,
    variables: Iterable[Variable],
    starts: Iterable[str],
    seams: Iterable[str] = (),
    fed: Iterable[str] = (),
) -> Shardable:
    """What of a graph can be sharded.

    Args:
        starts: the operations that train, and what is shown besides.
        seams: nodes at which the group's values come in; none before it's cut.
        fed: nodes whose values come with each batch.
    """
    starts, every = list(starts), tuple(variables)
    found = find_tables(graph, every, starts)
    taken = (_members(part) for table in found.tables for part in table.parts)
    step = Step(
        graph,
        read_flow(graph.view),
        frozenset(seams),
        frozenset(fed),
        frozenset(name for members in taken for name in members),
        frozenset(graph.view.ancestors(starts)),
    )
    wholes, tables = dict(found.wholes), []
    for table in found.tables:
        against = _local(graph, table, every) or obstacle(step, table)
        if against is None:
            tables.append(table)
        else:
            wholes.update((part.variable, against) for part in table.parts)
    return Shardable(tuple(tables), wholes)


def _local(graph: Graph, table: RowTable, variables: Iterable[Variable]) -> NeededWhole | None:
    """The initialiser of a part that no checkpoint holds."""
    local = {one.name: one for one in variables if one.local}
    for part in table.parts:
        for name in _members(part):
            if name in local:
                node = local[name].initializer or name
                why = "initialises it in each worker"
                return NeededWhole(part.variable, node, graph.view.op(node), why)
    return None


def _members(part: TablePart) -> tuple[str, ...]:
    return part.variable, *part.slots


def _node(tensor: str) -> str:
    return parse_tensor(tensor).node


def _without_whole_tables(
    graph: Graph, summaries: Iterable[tuple[str, str]], tables: Iterable[RowTable]
) -> tuple[tuple[str, str], ...]:
    """Those summaries that don't take a table as a whole, as the fraction of weights that are zero
    does: nobody has it.
    """
    parts = [part for table in tables for part in table.parts]
    lookups = {use.node for part in parts for use in part.lookups}
    members = {name for part in parts for name in _members(part)}
    return tuple(
        (tag, tensor)
        for tag, tensor in summaries
        if not members
        & graph.view.ancestors([_node(tensor)], control=False, stop=lookups.__contains__)
    )


def _seams(graph: WorkerGraph) -> Iterable[str]:
    for target in graph.targets:
        yield from (seam.node for seam in target.dense)
        for seam in target.sparse:
            yield from (seam.values_node, seam.indices_node)


def _fed(graph: WorkerGraph) -> Iterable[str]:
    yield from (port.tensor for port in graph.inputs)
    yield from (feed for feed in (graph.rng_feed, graph.group_rng_feed) if feed is not None)
