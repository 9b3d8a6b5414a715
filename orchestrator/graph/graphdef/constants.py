"""What values do a graph's constants hold?

Rule: as TensorFlow compresses them: a tensor with fewer values than its shape says repeats the last
one.
"""

from __future__ import annotations

from math import prod

import numpy as np
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from orchestrator.graph.graphdef.tensors import INTEGERS, dtype_name, shape_of
from orchestrator.graph.graphdef.view import Edge, GraphView, resolve_alias

LIMIT = 1 << 20
"""Strings or numbers in one constant that are worth reading here: savers have thousands, embedded
data sets have more.
"""

PASSING = frozenset({"Identity", "Enter"})


def strings_in(tensor: TensorProto) -> list[str]:
    """The strings of a string tensor, in C order."""
    count = _count(tensor)
    values = [value.decode("utf-8", "replace") for value in tensor.string_val]
    if values and len(values) < count <= LIMIT:
        values.extend([values[-1]] * (count - len(values)))
    return values


def constant_strings(view: GraphView, edge: Edge) -> list[str] | None:
    """The strings that an edge carries where it comes from a constant, else None."""
    tensor = _constant(view, edge)
    return None if tensor is None else strings_in(tensor)


def constant_integer(view: GraphView, edge: Edge) -> int | None:
    """The integer that an edge carries where it comes from a scalar constant, else None."""
    tensor = _constant(view, edge)
    return None if tensor is None else integer_in(tensor)


def constant_whole_number(view: GraphView, edge: Edge) -> int | None:
    """As ``constant_integer``, also of a float scalar that is a whole number."""
    tensor = _constant(view, edge)
    if tensor is None or dtype_name(tensor.dtype) not in ("float32", "float64"):
        return None if tensor is None else integer_in(tensor)
    if _count(tensor) != 1:
        return None
    if tensor.tensor_content:
        value = float(np.frombuffer(tensor.tensor_content, dtype_name(tensor.dtype))[0])
    else:
        value = next(iter(tensor.float_val or tensor.double_val), 0.0)
    return int(value) if value.is_integer() else None


def integer_in(tensor: TensorProto) -> int | None:
    """The integer of a scalar tensor; None for any other."""
    if _count(tensor) != 1 or dtype_name(tensor.dtype) not in INTEGERS:
        return None
    if tensor.tensor_content:
        dtype = np.dtype(dtype_name(tensor.dtype))
        return (
            int(np.frombuffer(tensor.tensor_content, dtype)[0])
            if len(tensor.tensor_content) == dtype.itemsize
            else None
        )
    values = tensor.int64_val or tensor.int_val or tensor.uint32_val or tensor.uint64_val
    return int(values[0]) if values else 0


def _constant(view: GraphView, edge: Edge) -> TensorProto | None:
    edge = resolve_alias(view, edge, PASSING)
    node: NodeDef | None = view.nodes.get(edge.node)
    if node is None or node.op != "Const" or "value" not in node.attr:
        return None
    return node.attr["value"].tensor


def _count(tensor: TensorProto) -> int:
    shape = shape_of(tensor.tensor_shape)
    return 1 if shape is None else prod(size or 0 for size in shape)
