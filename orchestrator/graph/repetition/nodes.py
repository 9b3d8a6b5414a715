"""What does a rule of repetition need to know of a node besides its inputs' values?

Rule: static shapes as the graph notes them (TensorFlow writes them beside every node that it
saves), small constants, attributes. What isn't noted is unknown, and a rule has to cope.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import FLOATS, INTEGERS, dtype_name, shape_of
from orchestrator.graph.graphdef.view import Edge, resolve_alias
from orchestrator.graph.repetition.values import Axes, Dims, Fixed, Part, Rows, Unknown, Value
from orchestrator.graph.worker_graph import Shape

SMALL = 4096
"""Numbers in a constant that are worth reading: shapes, axes, factors."""
PASSING = frozenset({"Identity", "Enter", "Cast", "StopGradient", "Reshape", "ExpandDims"})
"""Operations that leave the numbers of a constant what they are; its shape counts for nothing here.
"""
_FIELDS = (
    "float_val",
    "double_val",
    "int_val",
    "int64_val",
    "half_val",
    "bool_val",
    "uint32_val",
    "uint64_val",
)


@dataclass(frozen=True)
class Node:
    """A node of which a rule is asked.

    Attributes:
        given: its data inputs' values.
        static: no input of the graph has a free dimension, so that static sizes don't tell which
            axis is the batch's.
    """

    graph: Graph
    name: str
    given: tuple[Value, ...]
    static: bool = False

    @property
    def op(self) -> str:
        """The operation's type."""
        return self.graph.view.op(self.name)

    def edge(self, slot: int) -> Edge:
        """What an input takes."""
        return self.graph.view.data[self.name][slot]

    def attribute(self, name: str) -> AttrValue:
        """An attribute, empty where there is none."""
        return attribute(self.graph.view.nodes[self.name], name)

    def unknown(self, why: str = "") -> Unknown:
        """The answer of a rule that can't tell."""
        return Unknown(self.name, why or f"what {self.op} makes of rows isn't known")

    def shape(self, port: int = 0) -> Shape:
        """The static shape of an output."""
        return noted_shape(self.graph, Edge(self.name, port))

    def shape_in(self, slot: int) -> Shape:
        """The static shape of an input."""
        return noted_shape(self.graph, self.edge(slot))

    def numbers(self, slot: int) -> np.ndarray | None:
        """An input's numbers where it's a small constant."""
        return (
            constant_numbers(self.graph, self.edge(slot))
            if slot < len(self.graph.view.data[self.name])
            else None
        )

    def integers(self, slot: int) -> tuple[int, ...] | None:
        """An input's whole numbers where it's a small constant, in C order."""
        found = self.numbers(slot)
        return (
            None
            if found is None or found.dtype.kind not in "iu"
            else tuple(int(value) for value in found.ravel())
        )

    def sizes(self, slot: int) -> tuple[Part, ...] | None:
        """An input as a vector of sizes; None where it's none or its length isn't known."""
        value = self.given[slot]
        if isinstance(value, Dims):
            return value.parts
        known = self.integers(slot)
        if known is not None:
            return known
        shape = self.shape_in(slot)
        if (
            isinstance(value, Fixed)
            and value.degree == 0
            and shape is not None
            and len(shape) == 1
            and shape[0] is not None
        ):
            return (None,) * min(shape[0], SMALL)
        return None

    def settled(self, axes: Axes, port: int = 0) -> Axes:
        """Possible batch axes of an output, less those that its static shape rules out: the batch's
        size is none that is known.
        """
        shape = self.shape(port)
        if shape is None or self.static:
            return axes
        free = frozenset(axis for axis, size in enumerate(shape) if size is None)
        both = free if axes is None else axes & free
        return both or axes

    def whole_number(self, port: int = 0) -> bool:
        """Whether an output is of an integer type."""
        return self.graph.dtype(Edge(self.name, port)) in INTEGERS

    def differentiable(self, port: int = 0) -> bool:
        """Whether a gradient can pass through an output."""
        return self.graph.dtype(Edge(self.name, port)) in FLOATS


def noted_shape(graph: Graph, edge: Edge) -> Shape:
    """The static shape of a tensor as the graph notes it, None where it doesn't."""
    node = graph.view.nodes.get(edge.node)
    if node is None:
        return None
    # ``as_graph_def(add_shapes=True)``, as ``tf.train.export_meta_graph`` calls it
    # (``python/framework/meta_graph.py``), notes the shapes of all outputs
    noted = attribute(node, "_output_shapes").list.shape
    if edge.port < len(noted):
        return shape_of(noted[edge.port])
    if (
        node.op in ("Placeholder", "PlaceholderWithDefault", "VariableV2", "Variable")
        and "shape" in node.attr
    ):
        return shape_of(node.attr["shape"].shape)
    if node.op == "Const":
        return shape_of(attribute(node, "value").tensor.tensor_shape)
    return None


def rank_of(shape: Shape) -> int | None:
    """The number of axes of a static shape."""
    return None if shape is None else len(shape)


def constant_numbers(graph: Graph, edge: Edge) -> np.ndarray | None:
    """The numbers that an edge carries where they come from a small constant."""
    edge = resolve_alias(graph.view, edge, PASSING)
    node = graph.view.nodes.get(edge.node)
    if node is None or node.op != "Const":
        return None
    return _numbers(attribute(node, "value").tensor)


def _numbers(tensor: TensorProto) -> np.ndarray | None:
    shape = shape_of(tensor.tensor_shape)
    name = dtype_name(tensor.dtype)
    if shape is None or name not in INTEGERS | {"float32", "float64", "bool"}:
        return None
    count = prod(size or 0 for size in shape)
    if count > SMALL:
        return None
    if tensor.tensor_content:
        dtype = np.dtype(name)
        whole = len(tensor.tensor_content) == count * dtype.itemsize
        return (
            np.frombuffer(tensor.tensor_content, dtype).reshape([size or 0 for size in shape])
            if whole
            else None
        )
    # A tensor may be written short: the last value stands for all that follow, none at all for
    # zeros (``FromProtoField`` of ``core/framework/tensor.cc``)
    values = next(
        (list(getattr(tensor, field)) for field in _FIELDS if getattr(tensor, field)), [0]
    )
    values += values[-1:] * (count - len(values))
    return np.array(values[:count], name).reshape([size or 0 for size in shape])


def moved(axes: Axes, by: int) -> Axes:
    """Axes after others were put before them."""
    return None if axes is None else frozenset(axis + by for axis in axes)


def rows_of(node: Node, value: Rows, axes: Axes, port: int = 0) -> Rows:
    """``value`` with its batch axis elsewhere."""
    return Rows(
        node.settled(axes, port),
        value.degree,
        value.blank,
        value.picked,
        value.form,
        value.why,
        value.dial,
        value.zero,
    )
