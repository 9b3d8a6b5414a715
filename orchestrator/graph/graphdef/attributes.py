"""Do a node's attributes fit the definition of its operation?

Rule: what TensorFlow checks when it imports a node, without TensorFlow: no unknown attribute, none
missing without a default, each of the right kind and among the allowed values. An unknown attribute
at the default of the graph's own OpDef means what its absence means, so it can be dropped.
Attributes that begin with ``_`` are TensorFlow's own notes and always allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.op_def_pb2 import OpDef

from orchestrator.graph.graphdef.tensors import dtype_name

KINDS = {
    "string": "s",
    "int": "i",
    "float": "f",
    "bool": "b",
    "type": "type",
    "shape": "shape",
    "tensor": "tensor",
    "func": "func",
}
"""Name of an attribute's type in an OpDef to the field of AttrValue that holds it; lists are all in
``list``.
"""


_ABSENT = AttrValue()


def attribute(node: NodeDef, name: str) -> AttrValue:
    """The attribute ``name`` of ``node``, an empty value where it has none.

    ``node.attr[name]`` on a protobuf map adds the attribute when it's read, and TensorFlow refuses
    unknown ones.
    """
    value: AttrValue = node.attr.get(name, _ABSENT)
    return value


@dataclass(frozen=True)
class AttributeRules:
    """What one operation's definition demands of a node, looked up once per operation rather than
    once per node.

    Attributes:
        kinds: attribute name to the field of AttrValue.
        required: names without a default.
        allowed: name to the allowed values (type numbers, or byte strings), where they're
            restricted.
    """

    kinds: Mapping[str, str]
    required: frozenset[str]
    allowed: Mapping[str, frozenset[int] | frozenset[bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class AttributeFault:
    """One attribute of one node that doesn't fit.

    Attributes:
        kind: ``unknown``, ``missing``, ``kind`` or ``value``.
        droppable: an unknown attribute at its own OpDef's default.
    """

    attribute: str
    kind: str
    droppable: bool = False


def rules_of(op: OpDef) -> AttributeRules:
    """The rules that ``op`` sets."""
    kinds = {item.name: KINDS.get(item.type, "list") for item in op.attr}
    allowed: dict[str, frozenset[int] | frozenset[bytes]] = {}
    for item in op.attr:
        if item.HasField("allowed_values") and KINDS.get(item.type) in ("type", "s"):
            values = item.allowed_values.list
            allowed[item.name] = (
                frozenset(values.type) if item.type == "type" else frozenset(values.s)
            )
    return AttributeRules(
        kinds,
        frozenset(item.name for item in op.attr if not item.HasField("default_value")),
        allowed,
    )


def faults(
    node: NodeDef, rules: AttributeRules, own: OpDef | None, *, in_function: bool = False
) -> list[AttributeFault]:
    """What is wrong with the attributes of ``node``.

    Args:
        own: the definition that the graph itself brings of the operation, None where it brings
            none.
        in_function: the node stands in a function body, where a ``placeholder`` stands for the
            caller's attribute.
    """
    found: list[AttributeFault] = []
    attributes = node.attr
    for name in attributes:
        kind = rules.kinds.get(name)
        if kind is None:
            if not name.startswith("_"):
                found.append(
                    AttributeFault(name, "unknown", is_default(own, name, attributes[name]))
                )
            continue
        value = attributes[name]
        has = value.WhichOneof("value")
        if has != kind and not (in_function and has == "placeholder"):
            found.append(AttributeFault(name, "kind"))
        elif has == kind and not _allowed(value, kind, rules.allowed.get(name)):
            found.append(AttributeFault(name, "value"))
    found.extend(
        AttributeFault(name, "missing") for name in sorted(rules.required) if name not in attributes
    )
    return found


def _allowed(
    value: AttrValue, kind: str, allowed: frozenset[int] | frozenset[bytes] | None
) -> bool:
    if kind == "type":
        return bool(dtype_name(value.type)) and (allowed is None or value.type in allowed)
    if kind == "list" and value.list.type:
        return all(dtype_name(number) for number in value.list.type)
    return kind != "s" or allowed is None or value.s in allowed


def is_default(own: OpDef | None, name: str, value: AttrValue) -> bool:
    """Whether ``value`` is the default that the graph's own definition of the operation gives the
    attribute ``name``.
    """
    if own is None:
        return False
    return any(
        item.name == name and item.HasField("default_value") and item.default_value == value
        for item in own.attr
    )
