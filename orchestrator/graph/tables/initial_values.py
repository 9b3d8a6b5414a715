"""What do nodes say of a variable's initial value?

Rule: read from the proto, as written; nothing is computed.
"""

from __future__ import annotations

from math import prod

import numpy as np
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.tensors import dtype_name, shape_of

DRAWN_IN_TURN = frozenset(
    {"RandomUniform", "RandomStandardNormal", "TruncatedNormal", "ParameterizedTruncatedNormal"}
    | {"RandomUniformInt"}
)
"""Asked again they go on where they were."""
DRAWS = DRAWN_IN_TURN | frozenset(
    {"Fill", "StatelessRandomUniform", "StatelessRandomNormal"}
    | {"StatelessTruncatedNormal", "StatelessRandomUniformV2", "StatelessRandomNormalV2"}
    | {"StatelessTruncatedNormalV2"}
)
"""They take the shape of what they give as their first input."""


def one_number(tensor: TensorProto) -> float | None:
    """The number that all elements are; None where they differ, or are no numbers."""
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, dtype_name(tensor.dtype))
        return float(values[0]) if (values == values[0]).all() else None
    written = [
        value
        for kind in ("float", "double", "int", "int64", "bool")
        for value in getattr(tensor, f"{kind}_val")
    ]
    if len(tensor.half_val):  # as bits
        bits = np.array(tensor.half_val, np.uint16)
        written += bits.view(dtype_name(tensor.dtype)).astype(np.float64).tolist()
    if len(written) > 1 or len(tensor.string_val):
        return None
    return float(written[0]) if written else 0.0


def integers(node: NodeDef) -> np.ndarray | None:
    """The integers of a constant."""
    tensor = attribute(node, "value").tensor
    dtype = dtype_name(tensor.dtype)
    if dtype not in ("int32", "int64"):
        return None
    shape = tuple(size or 0 for size in shape_of(tensor.tensor_shape) or ())
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    values = list(tensor.int_val if dtype == "int32" else tensor.int64_val)
    if not values:
        return None
    return np.array((values + values[-1:] * prod(shape))[: prod(shape)], dtype).reshape(shape)
