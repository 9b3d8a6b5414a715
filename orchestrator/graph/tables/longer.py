"""What in a graph would not bear a table of more rows?

Rule: asked of the whole graph, since TensorFlow checks every shape when it imports one. Whatever
touches rows alone bears more of them; what sums up, multiplies by or describes all rows bears them
where no fixed size meets the result. The rest fixes the rows, and the first such node is named.
"""

from __future__ import annotations

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import resolve_alias
from orchestrator.graph.tables.elementwise import ELEMENTWISE, SAME_SHAPE, has_no_rows
from orchestrator.graph.tables.rows import family_of
from orchestrator.graph.tables.wholes import NeededWhole

SAVES = frozenset({"SaveV2", "SaveSlices", "Save"})
RESTORES = frozenset({"RestoreV2", "Restore", "RestoreSlice"})
_ENDS = frozenset(
    {"L2Loss", "Shape", "ShapeN", "Size", "Rank", "ArgMax", "ArgMin", "TopKV2", "TopK"}
)
"""What they give has the same shape however many rows there are."""
_KEEP = frozenset({"Softmax", "LogSoftmax", "Sum", "Mean", "Max", "Min"})
_PRODUCTS = {"MatMul": ("transpose_a", "transpose_b"), "BatchMatMulV2": ("adj_x", "adj_y")}


def fixes_rows(
    graph: Graph, variable: str, slots: tuple[str, ...], initializers: set[str]
) -> NeededWhole | None:
    """The first node that fixes the number of rows of a table or of its slots.

    Args:
        initializers: the assignments that initialise the graph's variables.
    """
    within = {
        name
        for name, op in graph.view.ops.items()
        if op not in SAVES and name not in initializers and not _restores(graph, name)
    }
    family = family_of(graph, variable, within, slots)
    for whole in family.wholes:
        found = _fixed_by(graph, whole)
        if found is not None:
            return found
    strangers = [name for name in family.members[1:] if name not in slots]
    if strangers:
        why = "is computed row by row from it outside of what a step runs"
        return NeededWhole(variable, strangers[0], graph.view.op(strangers[0]), why)
    return None


def _restores(graph: Graph, name: str) -> bool:
    if not graph.traits(name).writes or len(graph.view.data[name]) < 2:
        return False
    value = resolve_alias(graph.view, graph.view.data[name][1], frozenset({"Identity"}))
    return graph.view.op(value.node) in RESTORES


def _fixed_by(graph: Graph, whole: NeededWhole) -> NeededWhole | None:
    """``whole``, or what takes its result, where that fixes the rows."""
    if _ends(whole.op):
        return None
    if whole.op not in _KEEP and not _is_outer_product(graph, whole):
        return whole
    waiting, seen = [whole.node], {whole.node}
    while waiting:
        for use in graph.view.uses[waiting.pop()]:
            op = graph.view.op(use.node)
            if use.node in seen or _ends(op):
                continue
            if op not in _KEEP and not _is_alike(graph, use.node, use.slot):
                why = f"takes what {whole.node} computes of all its rows ({op})"
                return NeededWhole(whole.variable, use.node, op, why)
            seen.add(use.node)
            waiting.append(use.node)
    return None


def _ends(op: str) -> bool:
    return op in _ENDS or op.endswith(("Summary", "SummaryV2"))


def _is_outer_product(graph: Graph, whole: NeededWhole) -> bool:
    """Whether a product has a result for each row, rather than a sum over them."""
    if whole.op not in _PRODUCTS:
        return False
    first, second = _PRODUCTS[whole.op]
    node = graph.view.nodes[whole.node]
    turned = bool(attribute(node, first if whole.slot == 0 else second).b)
    return turned == (whole.slot == 1)


def _is_alike(graph: Graph, name: str, slot: int) -> bool:
    """Whether an operation computes each element by itself, with scalars beside it alone."""
    op = graph.view.op(name)
    return op in ELEMENTWISE - SAME_SHAPE and all(
        at == slot or has_no_rows(graph, edge, 1) for at, edge in enumerate(graph.view.data[name])
    )
