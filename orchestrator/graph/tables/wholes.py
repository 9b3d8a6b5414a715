"""Why does a node need a whole variable?

Rule: said by what the node does with it, in the words of whoever wrote the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Use

_PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"})
REDUCTIONS = frozenset({"Sum", "Mean", "Max", "Min", "Prod", "All", "Any", "EuclideanNorm"})
_PUT_TOGETHER = frozenset({"ConcatV2", "Concat", "Pack", "DynamicStitch"})


@dataclass(frozen=True)
class NeededWhole:
    """What needs all rows of a variable at once.

    Attributes:
        variable: the one that is needed whole; of a table it may be a slot.
        node, op: who needs it.
        why: a clause that goes on after the node's name.
        slot: the data input that takes it.
    """

    variable: str
    node: str
    op: str
    why: str
    slot: int = 0


def why_whole(graph: Graph, use: Use) -> str:
    """What the node of ``use`` does with the variable, as a clause."""
    op, traits = graph.view.op(use.node), graph.traits(use.node)
    if traits.update:
        return "applies a gradient to all of its rows"
    if op == "L2Loss":
        return "takes the norm of all its rows, as weight decay does"
    if op in _PRODUCTS:
        return "multiplies by all its rows, as a layer or a full softmax does"
    if op in REDUCTIONS:
        return "takes a sum, mean or extreme over its rows"
    if op.endswith(("Summary", "SummaryV2")):
        return "summarises all its values"
    if op in _PUT_TOGETHER:
        return "puts its rows together with others"
    if op.startswith(("Gather", "ResourceGather")):
        return "looks up along another axis than its rows"
    if traits.writes:
        return "writes it as a whole"
    if graph.definition(use.node) is None:
        return f"is a {op}, which isn't known"
    return f"takes all its rows ({op})"
