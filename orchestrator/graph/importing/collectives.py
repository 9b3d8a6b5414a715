"""What becomes of the collective operations by which a graph's own processes met inside of a step?

Rule: they wait for processes that aren't there, so a step that needs one never ends. A mean that
gradients pass on their way to the optimizer is what the exchange between workers takes, so it hands
its input on. Anything else (a sum, a gather, a broadcast, statistics that the loss is computed
from) has no such place: ``waiting_in_collectives`` names it, and the run is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.constants import constant_integer
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.library import label, reachable_functions
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.view import GraphView
from orchestrator.graph.problem import Problem

_REDUCTIONS = frozenset({"CollectiveReduce", "CollectiveReduceV2"})
_GROUP_SIZE_INPUT = 1
"""Where the second version takes it (``CollectiveReduceV2``, ``collective_ops.cc``); in the first
one it's an attribute.
"""
SHOWN = 5
"""Names in one message: a graph of many layers may wait in hundreds."""


def without_mean_reductions(meta: MetaGraphDef, ops: OpSet) -> tuple[MetaGraphDef, tuple[str, ...]]:
    """A copy in which the means of gradients are each process's own, and what was done in words;
    ``meta`` itself where there are none.
    """
    if not any(node.op in _REDUCTIONS for node in meta.graph_def.node):
        return meta, ()
    editor = Editor(meta)
    graph = editor.graph(ops)
    scoped = [name for name in graph.view.nodes if graph.gradient_scope(name) is not None]
    before = graph.view.ancestors(scoped, control=False)
    after = graph.view.descendants(scoped, control=False)
    replaced = [
        name
        for name, op in graph.view.ops.items()
        if op in _REDUCTIONS
        and name in after
        and name not in before
        and _is_mean(graph.view.nodes[name])
    ]
    for name in replaced:
        kept = {"T": attribute(graph.view.nodes[name], "T")}
        data, controls = graph.view.data[name][:1], graph.view.controls[name]
        editor.change_op(name, "Identity", data, controls, kept)
    if not replaced:
        return meta, ()
    return editor.meta, (
        f"{len(replaced)} collective means of gradients ({replaced[0]}) bypassed: the exchange takes the mean",
    )


def waiting_in_collectives(graph: Graph, needed: set[str]) -> Iterator[Problem]:
    """What of ``needed`` would wait for other processes for ever."""
    nodes = [graph.view.nodes[name] for name in graph.view.nodes if name in needed]
    bodies = reachable_functions(graph.meta.graph_def, nodes)
    inside = [(name, node) for name, body in bodies.items() for node in body.node_def]
    found = {
        label(function, node.name): node.op
        for function, node in [*(("", node) for node in nodes), *inside]
        if _meets_others(node) and _group_size(graph.view, function, node) != 1
    }
    if found:
        listed = ", ".join(f"{name} ({op})" for name, op in list(found.items())[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        yield Problem(
            "in-graph-collective",
            "error",
            f"training waits in {listed}{more} for the other processes of the cluster that the graph was built for",
            "Write the .meta from a graph that was built for one process; tfresume's workers exchange what it needs",
            tuple(found),
        )


def _is_mean(node: NodeDef) -> bool:
    return (attribute(node, "merge_op").s, attribute(node, "final_op").s) == (b"Add", b"Div")


def _meets_others(node: NodeDef) -> bool:
    """Whether an operation waits for its like in other processes; those that only say who they are
    don't.
    """
    if node.op.startswith("Nccl"):
        return True
    says = ("CollectiveInitializeCommunicator", "CollectiveAssignGroup")
    return node.op.startswith("Collective") and not node.op.startswith(says)


def _group_size(view: GraphView, function: str, node: NodeDef) -> int | None:
    """How many processes meet in it, None where that isn't known."""
    if "group_size" in node.attr:
        return int(node.attr["group_size"].i)
    if function or len(view.data[node.name]) <= _GROUP_SIZE_INPUT:
        return None
    return constant_integer(view, view.data[node.name][_GROUP_SIZE_INPUT])
