"""Which stateless operation draws like which stateful one, and how is the one turned into the
other?

Rule: the node keeps its name, its device and its consumers; only what it is changes. The
distribution, shape and type are the same, the numbers aren't: they depend on the key alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import Editor, constant_attributes, type_attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge

Attributes = dict[str, AttrValue]


class NodeAdder(Protocol):
    """What nodes can be added to: a graph's editor, or the body of a function."""

    def add(
        self,
        op: str,
        name: str,
        inputs: Iterable[Edge] = (),
        *,
        controls: Iterable[str] = (),
        attributes: Mapping[str, AttrValue] | None = None,
        device: str = "",
    ) -> str:
        """Add a node; its full name."""
        ...


Rewrite = Callable[[NodeAdder, NodeDef, list[Edge], Edge], tuple[str, list[Edge], Attributes]]
"""(editor, the old node, its data inputs, key) -> (new operation, its inputs, its attributes)."""

SEED = {"Tseed": type_attribute("int64")}
"""Of every stateless operation: its key is int64 ``[2]``."""


def make_stateless(editor: Editor, graph: Graph, name: str, key: Edge) -> None:
    """Turn the random node ``name`` into its stateless form, drawing with ``key`` (int64 ``[2]``)."""
    old = NodeDef()
    old.CopyFrom(editor.node(name))
    op, inputs, attributes = STATELESS[old.op](editor, old, list(graph.view.data[name]), key)
    editor.change_op(name, op, inputs, graph.view.controls[name], attributes)


def _plain(op: str) -> Rewrite:
    def rewrite(
        editor: NodeAdder, old: NodeDef, inputs: list[Edge], key: Edge
    ) -> tuple[str, list[Edge], Attributes]:
        return (
            op,
            [inputs[0], key],
            {"dtype": attribute(old, "dtype"), "T": attribute(old, "T"), **SEED},
        )

    return rewrite


def _whole_numbers(
    editor: NodeAdder, old: NodeDef, inputs: list[Edge], key: Edge
) -> tuple[str, list[Edge], Attributes]:
    attributes = {"dtype": attribute(old, "Tout"), "T": attribute(old, "T"), **SEED}
    return "StatelessRandomUniformInt", [inputs[0], key, inputs[1], inputs[2]], attributes


def _multinomial(
    editor: NodeAdder, old: NodeDef, inputs: list[Edge], key: Edge
) -> tuple[str, list[Edge], Attributes]:
    # Graphs from before the attribute was added lack it, and mean its default: int64
    # (``core/ops/random_ops.cc``)
    output = attribute(old, "output_dtype")
    attributes = {
        "T": attribute(old, "T"),
        "output_dtype": output if output.type else type_attribute("int64"),
        **SEED,
    }
    return "StatelessMultinomial", [inputs[0], inputs[1], key], attributes


def _gamma(
    editor: NodeAdder, old: NodeDef, inputs: list[Edge], key: Edge
) -> tuple[str, list[Edge], Attributes]:
    shape = _appended(editor, old, inputs, attribute(old, "S"), attribute(old, "T"))
    attributes = {"dtype": attribute(old, "T"), "T": attribute(old, "S"), **SEED}
    return "StatelessRandomGammaV2", [shape, key, inputs[1]], attributes


def _poisson(
    editor: NodeAdder, old: NodeDef, inputs: list[Edge], key: Edge
) -> tuple[str, list[Edge], Attributes]:
    # Both types may be left out where they are the defaults of ``core/ops/random_ops.cc``
    rate = attribute(old, "R")
    rate = rate if rate.type else type_attribute("float64")
    dtype = attribute(old, "dtype")
    shape = _appended(editor, old, inputs, attribute(old, "S"), rate)
    attributes = {
        "Rtype": rate,
        "dtype": dtype if dtype.type else type_attribute("int64"),
        "T": attribute(old, "S"),
        **SEED,
    }
    return "StatelessRandomPoisson", [shape, key, inputs[1]], attributes


def _appended(
    editor: NodeAdder,
    old: NodeDef,
    inputs: list[Edge],
    shape_type: AttrValue,
    value_type: AttrValue,
) -> Edge:
    """The shape of the output: the stateful forms append the parameter's own shape to the one asked
    for (``core/ops/random_ops.cc``), the stateless ones give the shape that they are asked for
    (``core/ops/stateless_random_ops.cc``).
    """
    label = f"random/{old.name}"
    own = editor.add(
        "Shape",
        f"{label}/parameter",
        [inputs[1]],
        attributes={"T": value_type, "out_type": shape_type},
    )
    # After a node of the loop around, if any, whose frame it has to be in
    axis = editor.add(
        "Const",
        f"{label}/axis",
        controls=[own],
        attributes=constant_attributes(np.array(0, np.int32)),
    )
    attributes = {"N": AttrValue(i=2), "T": shape_type, "Tidx": type_attribute("int32")}
    return Edge(
        editor.add(
            "ConcatV2",
            f"{label}/shape",
            [inputs[0], Edge(own, 0), Edge(axis, 0)],
            attributes=attributes,
        ),
        0,
    )


def _shuffle(
    editor: NodeAdder, old: NodeDef, inputs: list[Edge], key: Edge
) -> tuple[str, list[Edge], Attributes]:
    """Rows in the order of as many random numbers: Fisher's and Yates' way, which RandomShuffle goes
    (``core/kernels/random_shuffle_op.cc``), has no stateless form. Of equal numbers TopKV2 puts the
    lower index first (``tf.math.top_k``), so ties don't matter.
    """
    label, kind = f"random/{old.name}", attribute(old, "T")
    shape = editor.add(
        "Shape",
        f"{label}/value_shape",
        [inputs[0]],
        attributes={"T": kind, "out_type": type_attribute("int32")},
    )

    def constant(name: str, value: object) -> Edge:
        attributes = constant_attributes(np.array(value, np.int32))
        return Edge(
            editor.add("Const", f"{label}/{name}", controls=[shape], attributes=attributes), 0
        )

    begin, end, stride, axis = (
        constant("begin", [0]),
        constant("end", [1]),
        constant("stride", [1]),
        constant("axis", 0),
    )
    int32, float32 = type_attribute("int32"), type_attribute("float32")
    rows = editor.add(
        "StridedSlice",
        f"{label}/rows",
        [Edge(shape, 0), begin, end, stride],
        attributes={"T": int32, "Index": int32},
    )
    drawn = editor.add(
        "StatelessRandomUniform",
        f"{label}/drawn",
        [Edge(rows, 0), key],
        attributes={"dtype": float32, "T": int32, **SEED},
    )
    single = {"T": int32, "Index": int32, "shrink_axis_mask": AttrValue(i=1)}
    count = editor.add(
        "StridedSlice", f"{label}/count", [Edge(shape, 0), begin, end, stride], attributes=single
    )
    order = editor.add(
        "TopKV2",
        f"{label}/order",
        [Edge(drawn, 0), Edge(count, 0)],
        attributes={"T": float32, "sorted": AttrValue(b=True)},
    )
    attributes = {"Tparams": kind, "Tindices": int32, "Taxis": int32}
    return "GatherV2", [inputs[0], Edge(order, 1), axis], attributes


STATELESS: dict[str, Rewrite] = {
    "RandomUniform": _plain("StatelessRandomUniform"),
    "RandomStandardNormal": _plain("StatelessRandomNormal"),
    "TruncatedNormal": _plain("StatelessTruncatedNormal"),
    "RandomUniformInt": _whole_numbers,
    "Multinomial": _multinomial,
    "RandomGamma": _gamma,
    "RandomPoissonV2": _poisson,
    "RandomShuffle": _shuffle,
}
"""Stateful operations with a stateless form."""
