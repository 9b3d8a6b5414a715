"""How are queue runners and control flow contexts written in a graph's collections?

Rule: tensorboard ships no Python classes for these two files of TensorFlow's protocol, so the few
messages in use are built here, in a descriptor pool of their own (field names and numbers as in
``queue_runner.proto`` and ``control_flow.proto``), where they can't clash with TensorFlow's.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
_OPTIONAL = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
_REPEATED = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED

_FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "QueueRunnerDef": {
        "queue_name": (1, "string"),
        "enqueue_op_name": (2, "strings"),
        "close_op_name": (3, "string"),
        "cancel_op_name": (4, "string"),
    },
    "ExternalValue": {"key": (1, "string"), "value": (2, "string")},
    "ValuesDef": {"values": (1, "strings"), "external_values": (2, "ExternalValues")},
    "ControlFlowContextDef": {
        "cond_ctxt": (1, "CondContextDef"),
        "while_ctxt": (2, "WhileContextDef"),
    },
    "CondContextDef": {
        "context_name": (1, "string"),
        "pred_name": (2, "string"),
        "pivot_name": (3, "string"),
        "values_def": (5, "ValuesDef"),
        "nested_contexts": (6, "ControlFlowContextDefs"),
    },
    "WhileContextDef": {
        "context_name": (1, "string"),
        "pivot_name": (5, "string"),
        "pivot_for_pred_name": (6, "string"),
        "pivot_for_body_name": (7, "string"),
        "loop_exit_names": (8, "strings"),
        "values_def": (9, "ValuesDef"),
        "loop_enter_names": (10, "strings"),
        "maximum_iterations_name": (11, "string"),
        "nested_contexts": (12, "ControlFlowContextDefs"),
    },
}
"""Message to its fields: number, and ``string``, ``strings``, a message's name, or its name with an
``s`` where it's repeated.
"""


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="tfresume/collections.proto", package="tfresume", syntax="proto3"
    )
    for message_name, fields in _FIELDS.items():
        message = file.message_type.add(name=message_name)
        for name, (number, kind) in fields.items():
            repeated = kind.endswith("s")
            single = kind.removesuffix("s")
            field = message.field.add(
                name=name, number=number, label=_REPEATED if repeated else _OPTIONAL
            )
            field.type = _STRING if single == "string" else _MESSAGE
            if single != "string":
                field.type_name = f".tfresume.{single}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tfresume.{name}"))
        for name in _FIELDS
    }


_BUILT = _classes()
QueueRunnerDef: Any = _BUILT["QueueRunnerDef"]
"""An entry of the collection ``queue_runners``: ``queue_name``, ``enqueue_op_name``,
``close_op_name``, ``cancel_op_name``.
"""
CondContextDef: Any = _BUILT["CondContextDef"]
"""An entry of the collection ``cond_context``."""
WhileContextDef: Any = _BUILT["WhileContextDef"]
"""An entry of the collection ``while_context``."""


def names_in_context(context: Any) -> list[str]:
    """The node and tensor names that TensorFlow looks up when it reads a CondContextDef or
    WhileContextDef, nested ones included.
    """
    names: list[str] = []
    pending = [context]
    while pending:
        current = pending.pop()
        names.extend(
            getattr(current, field.name)
            for field in current.DESCRIPTOR.fields
            if field.name.endswith("_name")
            and field.name != "context_name"
            and getattr(current, field.name)
        )
        for field_name in ("loop_exit_names", "loop_enter_names"):
            names.extend(getattr(current, field_name, ()))
        external = {item.key for item in current.values_def.external_values}
        names.extend(item.value for item in current.values_def.external_values)
        names.extend(value for value in current.values_def.values if value not in external)
        for nested in current.nested_contexts:
            pending.append(nested.cond_ctxt if nested.HasField("cond_ctxt") else nested.while_ctxt)
    return names
