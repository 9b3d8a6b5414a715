"""How does a graph get along with some rows of its tables?

Rule: proto surgery on a graph that is ready to train, with its seams. Lookups take rows that are
fed in place of the table, and positions in place of ids. All that stands between the lookups and
the updates stays as it is and sees every row of the batch, so sums, clipping and whatever else is
done with gradients give the same bits; an update writes only what falls into this worker's block.
What is computed row by row over a whole table runs on the block, which is all that there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.flow import read_flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet, merged
from orchestrator.graph.graphdef.view import parse_tensor
from orchestrator.graph.tables.find import RowTable, TablePart, find_tables
from orchestrator.graph.tables.obstacles import Step, obstacle
from orchestrator.graph.tables.row_inputs import LookupWriter
from orchestrator.graph.tables.row_updates import UpdateWriter
from orchestrator.graph.tables.wholes import NeededWhole
from orchestrator.graph.tables.written_shapes import forget_rows
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.graph.worker_tables import ShardedPart, ShardedTables


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
    return _found(editor, ops, graph)


def shard_tables(graph: WorkerGraph, tables: Iterable[RowTable]) -> WorkerGraph:
    """The graph in which each worker holds a block of the rows of ``tables``.

    Args:
        tables: some of ``find_shardable``'s.
    """
    editor, ops = _opened(graph)
    before, chosen = editor.graph(ops), tuple(tables)
    for table in chosen:
        for part in table.parts:
            forget_rows(editor, before, (part.variable, *part.slots), part.rows)
    lookups = LookupWriter(editor, before, [target.op for target in graph.targets])
    parts: list[ShardedPart] = []
    for table in chosen:
        for part in table.parts:
            lookups.write(len(parts), part)
            parts.append(_divided(editor, before, len(parts), table, part))
    sharded = ShardedTables(tuple(parts), lookups.reads())
    variables = tuple(
        replace(one, shape=(None, *(one.shape or ())[1:])) if one.name in sharded.members else one
        for one in graph.variables
    )
    return replace(graph, meta=editor.meta.SerializeToString(), variables=variables, tables=sharded)


def _divided(
    editor: Editor, graph: Graph, number: int, table: RowTable, part: TablePart
) -> ShardedPart:
    """Change the variables of a part, and what updates them."""
    updates = UpdateWriter(editor, graph, number, table.row_shape)
    updates.write(part)
    members = (part.variable, *part.slots)
    for name in members:
        # Of no stated rank: a variable with a reference takes no half-known shape, and one without
        # any takes whatever is assigned
        shape = editor.node(name).attr["shape"].shape
        shape.Clear()
        shape.unknown_rank = True
    first, count = updates.first.tensor, updates.count.tensor
    return ShardedPart(table.name, part.variable, members, part.rows, table.row_shape, first, count)


def _opened(graph: WorkerGraph) -> tuple[Editor, OpSet]:
    meta = MetaGraphDef.FromString(graph.meta)
    return Editor(meta), merged(meta)


def _found(editor: Editor, ops: OpSet, graph: WorkerGraph) -> Shardable:
    view = editor.graph(ops)
    run = [target.op for target in graph.targets]
    shown = [*graph.losses, *(tensor for _, tensor in graph.scalar_summaries)]
    if graph.weight is not None:
        shown.append(graph.weight)
    starts = [*run, *(parse_tensor(tensor).node for tensor in shown)]
    found = find_tables(view, graph.variables, starts)
    step = Step(
        view,
        read_flow(view.view),
        frozenset(_seams(graph)),
        frozenset(parse_tensor(tensor).node for tensor in _fed(graph)),
        frozenset(
            name
            for table in found.tables
            for part in table.parts
            for name in (part.variable, *part.slots)
        ),
        frozenset(view.view.ancestors(starts)),
    )
    wholes, tables = dict(found.wholes), []
    for table in found.tables:
        against = obstacle(step, table)
        if against is None:
            tables.append(table)
        else:
            wholes.update((part.variable, against) for part in table.parts)
    return Shardable(tuple(tables), wholes)


def _seams(graph: WorkerGraph) -> Iterable[str]:
    for target in graph.targets:
        yield from (seam.node for seam in target.dense)
        for seam in target.sparse:
            yield from (seam.values_node, seam.indices_node)


def _fed(graph: WorkerGraph) -> Iterable[str]:
    yield from (port.tensor for port in graph.inputs)
    yield from (feed for feed in (graph.rng_feed, graph.group_rng_feed) if feed is not None)
