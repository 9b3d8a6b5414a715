"""Which protobuf messages stand in a checkpoint's files?

Rule: the small messages of TensorFlow's ``tensor_bundle.proto`` and
``saved_tensor_slice.proto`` are described here by hand, with TensorFlow's field numbers, so that a
checkpoint is read without TensorFlow. Fields that nobody here reads are left out; protobuf skips
them.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from orchestrator.errors import CorruptCheckpoint

_F = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "int64": _F.TYPE_INT64,
    "int32": _F.TYPE_INT32,
    "fixed32": _F.TYPE_FIXED32,
    "float": _F.TYPE_FLOAT,
    "double": _F.TYPE_DOUBLE,
    "bytes": _F.TYPE_BYTES,
}

# message -> field -> (number, type, repeated); a type that starts with a capital is a message of
# this table
_MESSAGES: Final[dict[str, dict[str, tuple[int, str, bool]]]] = {
    "Dim": {"size": (1, "int64", False)},
    "Shape": {"dim": (2, "Dim", True), "unknown_rank": (3, "int32", False)},
    "Extent": {"start": (1, "int64", False), "length": (2, "int64", False)},
    "Slice": {"extent": (1, "Extent", True)},
    "Version": {"producer": (1, "int32", False)},
    "BundleHeader": {
        "num_shards": (1, "int32", False),
        "endianness": (2, "int32", False),
        "version": (3, "Version", False),
    },
    "BundleEntry": {
        "dtype": (1, "int32", False),
        "shape": (2, "Shape", False),
        "shard_id": (3, "int32", False),
        "offset": (4, "int64", False),
        "size": (5, "int64", False),
        "crc32c": (6, "fixed32", False),
        "slices": (7, "Slice", True),
    },
    "V1TensorMeta": {
        "name": (1, "bytes", False),
        "shape": (2, "Shape", False),
        "type": (3, "int32", False),
        "slice": (4, "Slice", True),
    },
    "V1Meta": {"tensor": (1, "V1TensorMeta", True)},
    "V1Tensor": {
        "dtype": (1, "int32", False),
        "tensor_content": (4, "bytes", False),
        "float_val": (5, "float", True),
        "double_val": (6, "double", True),
        "int_val": (7, "int32", True),
        "int64_val": (10, "int64", True),
    },
    "V1Slice": {
        "name": (1, "bytes", False),
        "slice": (2, "Slice", False),
        "data": (3, "V1Tensor", False),
    },
    "V1Entry": {"meta": (1, "V1Meta", False), "data": (2, "V1Slice", False)},
}


def _build() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="tfresume/checkpoint_files.proto", package="tfresume", syntax="proto3"
    )
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, (number, kind, repeated) in fields.items():
            entry = message.field.add(
                name=name, number=number, label=_F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
            )
            if kind in _MESSAGES:
                entry.type, entry.type_name = _F.TYPE_MESSAGE, f".tfresume.{kind}"
            else:
                entry.type = _TYPES[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tfresume.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _build()

# TensorFlow's types.proto, in the words that NumPy and ml_dtypes use
DTYPES: Final[dict[int, str]] = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    29: "int4",
    30: "uint4",
}
DTYPE_NUMBERS: Final = {name: number for number, name in DTYPES.items()}
ITEM_BYTES: Final[dict[str, int]] = {
    "float32": 4,
    "float64": 8,
    "int32": 4,
    "uint8": 1,
    "int16": 2,
    "int8": 1,
    "complex64": 8,
    "int64": 8,
    "bool": 1,
    "qint8": 1,
    "quint8": 1,
    "qint32": 4,
    "bfloat16": 2,
    "qint16": 2,
    "quint16": 2,
    "uint16": 2,
    "complex128": 16,
    "float16": 2,
    "uint32": 4,
    "uint64": 8,
    "float8_e5m2": 1,
    "float8_e4m3fn": 1,
}


def parse(kind: str, data: bytes, name: str) -> Any:
    """A message of this module's table, from its bytes.

    Raises:
        CorruptCheckpoint: naming the file ``name``, where the bytes aren't such a message.
    """
    message = _CLASSES[kind]()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise CorruptCheckpoint(
            f"{name} holds a damaged {kind} record ({error})",
            remedy="Use another checkpoint, or copy this one again",
        ) from error
    return message


def serialized(kind: str, **fields: Any) -> bytes:
    """The bytes of a message of this module's table; nested messages are given as mappings."""
    return bytes(_CLASSES[kind](**fields).SerializeToString())
