"""What stands against giving each worker some rows of a table?

Rule: asked of tables that a step touches by row alone. The rows of a batch are fetched before
anything else is computed and before anything is written, so what says which rows has to be known by
then, alike whenever it's asked. What the update does with its rows stays with them. The first node
that is against it is named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.graph.graphdef.flow import Flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.op_traits import input_index
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.tables.draws import draws
from orchestrator.graph.tables.elementwise import ELEMENTWISE
from orchestrator.graph.tables.find import RowTable, TablePart
from orchestrator.graph.tables.rows import LOOKUPS, RowUse
from orchestrator.graph.tables.wholes import NeededWhole

_SHAPES = frozenset({"Shape", "VariableShape", "Size"})
"""Asked about a table they're answered with the numbers of the whole."""
_NO_SHAPE = frozenset(
    {"IsVariableInitialized", "VarIsInitializedOp", "Rank", "DisableCopyOnRead"}
    | {"ResourceInitializedOp"}
)


@dataclass(frozen=True)
class Step:
    """What a step runs.

    Attributes:
        graph: with its seams.
        flow: where its nodes stand.
        seams: names of the nodes at which the group's values come in; none before it's cut.
        fed: names of all placeholders that differ between batches.
        taken: variables of all tables, and of their slots.
        within: everything that it runs.
    """

    graph: Graph
    flow: Flow
    seams: frozenset[str]
    fed: frozenset[str]
    taken: frozenset[str]
    within: frozenset[str]

    @property
    def cut(self) -> bool:
        """Whether nothing waits for a writer any more that it needn't wait for."""
        return bool(self.seams)


def obstacle(step: Step, table: RowTable) -> NeededWhole | None:
    """The first node that is against it, None where there is none."""
    for part in table.parts:
        for found in (
            _against_lookups(step, part),
            _against_updates(step, part),
            _against_looks(step, part),
        ):
            if found is not None:
                return found
    return None


def source_of(graph: Graph, lookup: RowUse) -> Edge:
    """What a lookup takes rows of."""
    return graph.view.data[lookup.node][0]


def _against_lookups(step: Step, part: TablePart) -> NeededWhole | None:
    for use in part.lookups:
        if not step.flow.once(use.node):
            return _of(step, part, use.node, "looks its rows up inside a loop or a conditional")
        assert use.indices is not None
        found = (
            _against_ids(step, part, use, use.indices)
            or _against_source(step, part, source_of(step.graph, use))
            or _against_order(step, part, use)
        )
        if found is not None:
            return found
    return None


def _against_ids(step: Step, part: TablePart, use: RowUse, ids: Edge) -> NeededWhole | None:
    """Ids are computed twice: to fetch the rows, and with the gradients. What is drawn for them is
    drawn once (``draws``).
    """
    # How many rows there are is known without any of them
    above = step.graph.view.ancestors(
        [ids.node], control=step.cut, stop=lambda name: asks_for_shape(step.graph, name)
    )
    for name in sorted(above):
        why = ""
        if name in step.taken:
            why = f"takes ids that follow from rows of {_whose(name, part)}"
        elif name in step.seams:
            why = "takes ids that follow from gradients"
        elif step.graph.writes(name):
            why = f"takes ids that wait for {name}, which writes state"
        elif name not in step.fed and draws(step.graph, name) and not _drawn_first(step, name):
            why = f"takes ids of {name}, which draws others whenever it's asked"
        if why:
            return _of(step, part, use.node, why)
    return None


def _drawn_first(step: Step, name: str) -> bool:
    """Whether something can be drawn before anything else of a batch is known."""
    before = step.graph.view.ancestors([name]) - {name}
    return step.flow.once(name) and not any(
        draws(step.graph, other) for other in before if other not in step.fed
    )


def _whose(name: str, part: TablePart) -> str:
    return "the table itself" if name in (part.variable, *part.slots) else f"another one, {name}"


def _against_source(step: Step, part: TablePart, source: Edge) -> NeededWhole | None:
    """What an owner computes of its rows mustn't depend on whose batch wants them."""
    for name in sorted(step.graph.view.ancestors([source.node], control=step.cut)):
        if name in step.fed or name in step.seams or draws(step.graph, name):
            why = f"is computed from its rows and from {name}, which each batch has its own of"
            return _of(step, part, source.node, why)
        if step.graph.writes(name):
            return _of(step, part, source.node, f"takes its rows after {name} has written state")
    return None


def _against_order(step: Step, part: TablePart, use: RowUse) -> NeededWhole | None:
    controls = step.graph.view.controls[use.node] if step.cut else ()
    writers = step.graph.writers(sorted(step.graph.view.ancestors(controls)))
    if writers:
        return _of(step, part, use.node, f"looks its rows up after {writers[0]} has written state")
    return None


def _against_updates(step: Step, part: TablePart) -> NeededWhole | None:
    graph = step.graph
    writes = {use.node for use in part.updates if graph.traits(use.node).writes}
    for use in part.updates:
        if use.indices is None:
            continue
        op = graph.view.op(use.node)
        if not step.flow.once(use.node):
            return _of(step, part, use.node, "updates it inside a loop or a conditional")
        if "Nd" in op:
            return _of(step, part, use.node, f"updates it by coordinates ({op})")
        if op in LOOKUPS:
            found = _against_reading(step, part, use, writes)
        else:
            found = _against_writing(step, part, use)
        if found is not None:
            return found
    return None


def _against_reading(
    step: Step, part: TablePart, use: RowUse, writes: Iterable[str]
) -> NeededWhole | None:
    """Rows that another worker has are read as any other row, which does no harm as long as what
    follows from them is written to rows of that worker alone.
    """
    graph = step.graph
    if graph.view.op(use.node) not in ("Gather", "GatherV2", "ResourceGather"):
        return _of(step, part, use.node, "adds its rows up between gradients and update")
    ends, seen, waiting = set(writes), {use.node}, [use.node]
    while waiting:
        for onward in graph.view.uses[waiting.pop()]:
            name = onward.node
            if name in seen or name not in step.within or name in ends:
                continue
            if graph.view.op(name) not in ELEMENTWISE:
                why = (
                    f"computes with rows of it between gradients and update ({graph.view.op(name)})"
                )
                return _of(step, part, name, why)
            seen.add(name)
            waiting.append(name)
    return None


def _against_writing(step: Step, part: TablePart, use: RowUse) -> NeededWhole | None:
    definition = step.graph.definition(use.node)
    if definition is None or rows_input(step.graph, use) is None:
        return _of(step, part, use.node, "updates it in a way that isn't known")
    return None


def rows_input(graph: Graph, use: RowUse) -> int | None:
    """Which input of an update by row has a row for each of the indices."""
    definition = graph.definition(use.node)
    if definition is None:
        return None
    grad = input_index(definition, "grad")
    return input_index(definition, "updates") if grad is None else grad


def _against_looks(step: Step, part: TablePart) -> NeededWhole | None:
    for name, edge in part.looks:
        op = step.graph.view.op(name)
        if op in _NO_SHAPE:
            continue
        whole = step.graph.variable_of(edge.node) in (part.variable, *part.slots)
        if op not in _SHAPES or not whole:
            return _of(step, part, name, "asks how many rows it has")
    return None


def asks_for_shape(graph: Graph, name: str) -> bool:
    """Whether a node's answer tells how many rows there are."""
    return graph.view.op(name) in _SHAPES


def _of(step: Step, part: TablePart, node: str, why: str) -> NeededWhole:
    return NeededWhole(part.variable, node, step.graph.view.op(node), why)
