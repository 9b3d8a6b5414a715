"""How does a graph of ``SyncReplicasOptimizer`` train without its other replicas?

Rule: the accumulators that waited for all replicas' gradients are bypassed, gradient to optimizer,
and the tokens that let replicas go on are no longer queued: the exchange between workers does what
both did. Only the worker's graph changes, never what is saved. An accumulator after which nobody
hands out tokens is its author's own and stays.

Source: ``SyncReplicasOptimizer.apply_gradients`` of
``tensorflow/python/training/sync_replicas_optimizer.py`` (2.21): ``apply_grad``, ``take_grad`` of
as many as there are replicas, the update, and then ``enqueue_many`` of a token for each.
"""

from __future__ import annotations

import numpy as np

from orchestrator.graph.graphdef.constants import constant_integer
from orchestrator.graph.graphdef.edit import (
    Editor,
    constant_attributes,
    integer_attribute,
    type_attribute,
)
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.view import Edge, resolve_alias
from orchestrator.graph.problem import Problem

TAKES = {
    "AccumulatorTakeGradient",
    "SparseAccumulatorTakeGradient",
    "ResourceAccumulatorTakeGradient",
}
APPLIES = {
    "AccumulatorApplyGradient",
    "SparseAccumulatorApplyGradient",
    "ResourceAccumulatorApplyGradient",
}


def unwrap_accumulators(editor: Editor, graph: Graph) -> tuple[Problem, ...]:
    """Bypass the conditional accumulators in the editor's graph; a warning that says so where there
    were some.
    """
    applied: dict[str, list[str]] = {}
    for name, op in graph.view.ops.items():
        if op in APPLIES:
            applied.setdefault(_handle(graph, name), []).append(name)
    taken = [
        name
        for name, op in graph.view.ops.items()
        if op in TAKES and _handle(graph, name) in applied
    ]
    taken = [
        name
        for name in taken
        if _token_queues(graph, [name]) or _in_one_run(graph, name, applied[_handle(graph, name)])
    ]
    if not taken:
        return ()
    for name in taken:
        _bypass(editor, graph, name, applied[_handle(graph, name)])
    tokens = _token_queues(graph, taken)
    # A train op may end in the enqueueing: it stays, as a node that only waits
    for name in tokens:
        waits = [*graph.view.controls[name], *(edge.node for edge in graph.view.data[name][1:])]
        editor.change_op(name, "NoOp", (), dict.fromkeys(waits), {})
    message = f"{len(taken)} gradient accumulators of a SyncReplicasOptimizer are bypassed; the group's exchange takes their place"
    return (Problem("sync-replicas-unwrapped", "warning", message, nodes=tuple(taken[:10])),)


def _in_one_run(graph: Graph, take: str, applied: list[str]) -> bool:
    """Whether as many gradients are taken as one run puts in: several towers' ones, or a single."""
    required = constant_integer(graph.view, graph.view.data[take][1])
    return required == len(applied) and set(applied) <= graph.view.ancestors([take])


def _handle(graph: Graph, name: str) -> str:
    return (
        resolve_alias(graph.view, graph.view.data[name][0], ALIASES).node
        if graph.view.data[name]
        else ""
    )


def _bypass(editor: Editor, graph: Graph, take: str, applied: list[str]) -> None:
    sparse = graph.view.op(take).startswith("Sparse")
    gradients = [graph.view.data[name] for name in applied]
    # Inputs of SparseAccumulatorApplyGradient: handle, local step, indices, values, shape, in the
    # order in which SparseAccumulatorTakeGradient gives the last three
    outputs = (
        gradients[0][2:5]
        if sparse
        else (_sum(editor, graph, take, [edges[2] for edges in gradients]),)
    )
    for use in graph.view.uses[take]:
        if use.port < len(outputs):
            editor.set_input(use.node, use.slot, outputs[use.port])
    for waiting in graph.view.control_uses[take]:
        editor.replace_control(waiting, take, outputs[0].node)


def _sum(editor: Editor, graph: Graph, take: str, gradients: list[Edge]) -> Edge:
    """One gradient, or the mean of several towers' that went into one accumulator."""
    if len(gradients) == 1:
        return gradients[0]
    dtype = {"T": type_attribute(graph.dtype(gradients[0]))}
    stacked = editor.add(
        "Pack",
        f"towers/{take}/all",
        gradients,
        attributes={**dtype, "N": integer_attribute(len(gradients)), "axis": integer_attribute(0)},
    )
    axis = editor.add(
        "Const", f"towers/{take}/axis", attributes=constant_attributes(np.array(0, np.int32))
    )
    mean = editor.add(
        "Mean",
        f"towers/{take}/mean",
        [Edge(stacked, 0), Edge(axis, 0)],
        attributes={**dtype, "Tidx": type_attribute("int32")},
    )
    return Edge(mean, 0)


def _token_queues(graph: Graph, taken: list[str]) -> list[str]:
    """Enqueue operations that wait for the update: they hand out the tokens of the next step."""
    later = graph.view.descendants(taken)
    return [
        name
        for name in graph.view.nodes
        if name in later and graph.view.op(name).startswith("QueueEnqueue")
    ]
