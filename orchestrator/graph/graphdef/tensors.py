"""What type and static shape do a graph's tensors have?

Rule: types are lower-case NumPy names, shapes are tuples with None for what is unknown; both come
out of protos and OpDefs alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from tensorboard.compat.proto import types_pb2
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.op_def_pb2 import OpDef
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

from orchestrator.graph.worker_graph import Shape

_SPECIAL = {"float": "float32", "double": "float64", "half": "float16", "resource": "resource"}
_REF_OFFSET = 100
"""DT_FLOAT_REF is DT_FLOAT + 100, and so on for all types."""

WIDTHS = {
    "bfloat16": 2,
    "string": 0,
    "resource": 0,
    "variant": 0,
    "qint8": 1,
    "quint8": 1,
    "qint16": 2,
    "quint16": 2,
    "qint32": 4,
}
"""Bytes of an element of the types that NumPy doesn't know; strings have no fixed size."""

LIST_LIMIT = 1 << 20
"""Longest list of inputs or outputs that is believed: a damaged file may claim 2**60, and nothing
has that many.
"""

FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
COMPLEX = frozenset({"complex64", "complex128"})
INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})


def _names() -> Iterator[tuple[int, str]]:
    for key, value in types_pb2.DataType.items():
        if not key.endswith("_REF") and value:
            plain = key.removeprefix("DT_").lower()
            yield value, _SPECIAL.get(plain, plain)


_NAME_OF = dict(_names())
_NUMBER_OF = {name: number for number, name in _NAME_OF.items()}


def dtype_name(number: int) -> str:
    """The NumPy name of a DataType number, references taken off; ``""`` for an unknown one."""
    return _NAME_OF.get(number - _REF_OFFSET if number > _REF_OFFSET else number, "")


def dtype_number(name: str) -> int:
    """The DataType number of a NumPy name.

    Raises:
        KeyError: no such type.
    """
    return _NUMBER_OF[name]


def element_bytes(dtype: str) -> int:
    """Bytes of one element; 0 for types without a fixed size."""
    if dtype in WIDTHS:
        return WIDTHS[dtype]
    try:
        return np.dtype(dtype).itemsize
    except TypeError:
        return 1


def shape_of(proto: TensorShapeProto) -> Shape:
    """A shape proto as a tuple; None for an unknown rank."""
    if proto.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else int(dim.size) for dim in proto.dim)


def fill_shape(proto: TensorShapeProto, shape: Shape) -> None:
    """Write ``shape`` into an empty shape proto."""
    if shape is None:
        proto.unknown_rank = True
        return
    for size in shape:
        proto.dim.add(size=-1 if size is None else size)


def output_dtypes(node: NodeDef, definition: OpDef | None) -> tuple[str, ...]:
    """The types of all outputs of ``node``, as its OpDef says; ``()`` where the OpDef is unknown or
    attributes are missing.
    """
    if definition is None:
        return ()
    found: list[str] = []
    for argument in definition.output_arg:
        types = _argument_dtypes(node, argument)
        if types is None:
            return ()
        found.extend(types)
    return tuple(found)


def argument_types(
    node: NodeDef, arguments: Iterable[OpDef.ArgDef]
) -> tuple[tuple[str, bool], ...] | None:
    """Type and whether it's a reference, for all tensors of an OpDef's inputs or outputs; None
    where attributes are missing.
    """
    found: list[tuple[str, bool]] = []
    for argument in arguments:
        types = _argument_dtypes(node, argument)
        if types is None:
            return None
        found.extend((dtype, argument.is_ref) for dtype in types)
    return tuple(found)


def _argument_dtypes(node: NodeDef, argument: OpDef.ArgDef) -> list[str] | None:
    if argument.type_list_attr:
        if argument.type_list_attr not in node.attr:
            return None
        return [dtype_name(number) for number in node.attr[argument.type_list_attr].list.type]
    if argument.type_attr:
        if argument.type_attr not in node.attr:
            return None
        single = dtype_name(node.attr[argument.type_attr].type)
    else:
        single = dtype_name(argument.type)
    if argument.number_attr:
        count = int(node.attr[argument.number_attr].i) if argument.number_attr in node.attr else -1
        return [single] * count if 0 <= count <= LIST_LIMIT else None
    return [single]


def input_slots(node: NodeDef, definition: OpDef, names: frozenset[str]) -> dict[str, int]:
    """At which data input each of the named arguments of the OpDef begins.

    Lists count as long as their ``number_attr`` or type list says.
    """
    slots: dict[str, int] = {}
    at = 0
    for argument in definition.input_arg:
        if argument.name in names:
            slots[argument.name] = at
        at += _argument_length(node, argument)
    return slots


def _argument_length(node: NodeDef, argument: OpDef.ArgDef) -> int:
    if argument.number_attr:
        return int(node.attr[argument.number_attr].i) if argument.number_attr in node.attr else 1
    if argument.type_list_attr:
        return (
            len(node.attr[argument.type_list_attr].list.type)
            if argument.type_list_attr in node.attr
            else 1
        )
    return 1
