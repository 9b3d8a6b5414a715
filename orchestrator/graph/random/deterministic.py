"""How does a graph look in which nothing is left to chance?

Rule: every random operation gives values of its own shape and type that don't depend on any state
(uniform and normal numbers are 0.5, an order is the one that's given, sampled classes are the first
ones), in function bodies too. Two programs that train such a graph have no excuse to differ: that's
what ``verify`` uses it for. Not fit for training anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import Editor, constant_attributes, type_attribute
from orchestrator.graph.graphdef.function_body import FunctionBody
from orchestrator.graph.graphdef.library import label
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.random.stateless import NodeAdder

HALF = 0.5
"""Stands for what would be drawn from [0, 1): its middle, so that a comparison with a rate goes the
likelier way and nothing becomes an extreme.
"""
Attributes = dict[str, AttrValue]
Replacement = Callable[
    [NodeAdder, NodeDef, list[Edge], tuple[str, ...]], tuple[str, list[Edge], Attributes]
]
"""(where to add nodes, the old node, its data inputs, what added constants wait for) -> (operation,
inputs, attributes).
"""


@dataclass(frozen=True)
class DeterministicGraph:
    """The graph held still, and the random operations that couldn't be."""

    meta: MetaGraphDef
    left: tuple[str, ...]


def without_chance(meta: MetaGraphDef, only: Container[str] | None = None) -> DeterministicGraph:
    """A copy of ``meta`` whose random operations give the same values in every run.

    Args:
        only: nodes that count, None for all; what function bodies draw counts always.
    """
    ops = merged(meta)
    editor = Editor(meta)
    graph = editor.graph(ops)
    left: list[str] = []
    for name in graph.view.nodes:
        counts = graph.traits(name).random and (only is None or name in only)
        if counts and not _hold_node(editor, graph, name):
            left.append(name)
    for function in editor.meta.graph_def.library.function:
        body = FunctionBody(function, ops)
        # A constant that is added to a body waits for nothing, so it would stand outside of the
        # frame of a loop of the old kind
        looping = any(node.op in ("Enter", "RefEnter") for node in function.node_def)
        for node in list(function.node_def):
            if graph.random_type(node.op) and (looping or not _hold_in_body(body, node)):
                left.append(label(function.signature.name, node.name))
    return DeterministicGraph(editor.meta, tuple(left))


def _hold_node(editor: Editor, graph: Graph, name: str) -> bool:
    old = NodeDef()
    old.CopyFrom(editor.node(name))
    if old.op not in REPLACEMENTS:
        return False
    data = list(graph.view.data[name])
    # What is added waits for the node's first input: so it's in the frame of the loop around, if
    # any
    op, inputs, attributes = REPLACEMENTS[old.op](editor, old, data, (data[0].node,))
    editor.change_op(name, op, inputs, graph.view.controls[name], attributes)
    return True


def _hold_in_body(body: FunctionBody, node: NodeDef) -> bool:
    old = NodeDef()
    old.CopyFrom(node)
    if old.op not in REPLACEMENTS:
        return False
    op, inputs, attributes = REPLACEMENTS[old.op](body, old, body.data(old), ())
    body.change_op(node, op, inputs, attributes)
    return True


def _halves(
    body: NodeAdder, old: NodeDef, data: list[Edge], waits: tuple[str, ...]
) -> tuple[str, list[Edge], Attributes]:
    dtype = attribute(old, "dtype")
    # One constant and a cast serve all types, half ones included
    half = body.add(
        "Const",
        f"still/{old.name}/half",
        controls=waits,
        attributes=constant_attributes(np.array(HALF, np.float32)),
    )
    cast = {"SrcT": type_attribute("float32"), "DstT": dtype}
    value = body.add("Cast", f"still/{old.name}/value", [Edge(half, 0)], attributes=cast)
    return "Fill", [data[0], Edge(value, 0)], {"T": dtype, "index_type": attribute(old, "T")}


def _least(
    body: NodeAdder, old: NodeDef, data: list[Edge], waits: tuple[str, ...]
) -> tuple[str, list[Edge], Attributes]:
    return (
        "Fill",
        [data[0], data[1]],
        {"T": attribute(old, "Tout"), "index_type": attribute(old, "T")},
    )


def _as_given(
    body: NodeAdder, old: NodeDef, data: list[Edge], waits: tuple[str, ...]
) -> tuple[str, list[Edge], Attributes]:
    return "Identity", [data[0]], {"T": attribute(old, "T")}


def _first_classes(
    body: NodeAdder, old: NodeDef, data: list[Edge], waits: tuple[str, ...]
) -> tuple[str, list[Edge], Attributes]:
    """Sampled classes, the true ones' expected counts and the sampled ones', of a candidate
    sampler. All counts are one, of which the logarithm is zero: the sampled losses subtract that
    from their logits (``_compute_sampled_logits`` of ``python/ops/nn_impl.py``).
    """
    count = attribute(old, "num_sampled").i
    label = f"still/{old.name}"
    classes = body.add(
        "Const",
        f"{label}/classes",
        controls=waits,
        attributes=constant_attributes(np.arange(count)),
    )
    ones = body.add(
        "Const",
        f"{label}/counts",
        controls=waits,
        attributes=constant_attributes(np.ones(count, np.float32)),
    )
    cast = {"SrcT": type_attribute("int64"), "DstT": type_attribute("float32")}
    wide = body.add("Cast", f"{label}/true", [data[0]], attributes=cast)
    true = body.add(
        "OnesLike",
        f"{label}/true_counts",
        [Edge(wide, 0)],
        attributes={"T": type_attribute("float32")},
    )
    types = AttrValue()
    types.list.type.extend([type_attribute(name).type for name in ("int64", "float32", "float32")])
    return "IdentityN", [Edge(classes, 0), Edge(true, 0), Edge(ones, 0)], {"T": types}


REPLACEMENTS: dict[str, Replacement] = {
    **dict.fromkeys(("RandomUniform", "RandomStandardNormal", "TruncatedNormal"), _halves),
    "RandomUniformInt": _least,
    "RandomShuffle": _as_given,
    **dict.fromkeys(
        (
            "UniformCandidateSampler",
            "LogUniformCandidateSampler",
            "LearnedUnigramCandidateSampler",
            "FixedUnigramCandidateSampler",
        ),
        _first_classes,
    ),
}
"""What stands in for each operation."""
