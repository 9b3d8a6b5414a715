"""Is the graph's wiring sound?

Rule: what TensorFlow's import demands of the nodes' inputs, all of it at once and without
TensorFlow: names that are unique and legal, inputs that exist, as many as the operation takes and
of its types, and no cycle but a loop's. A flipped byte in a file shows up here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.tensors import COMPLEX, argument_types, dtype_name, element_bytes
from orchestrator.graph.graphdef.view import GraphView

NODE_NAME = re.compile(r"^[A-Za-z0-9.][A-Za-z0-9_>./\\-]*$", re.ASCII)
"""TensorFlow's rule for names in a GraphDef (``ops._VALID_OP_NAME_REGEX``), underscores in front
excepted.
"""


@dataclass(frozen=True)
class WiringFault:
    """One thing that TensorFlow's import would stumble over.

    Attributes:
        code: ``duplicate-node``, ``bad-node-name``, ``unknown-input``, ``bad-inputs``,
            ``type-mismatch``, ``bad-constant`` or ``cycle``.
        node: the node concerned.
        detail: what is wrong with it.
    """

    code: str
    node: str
    detail: str


def wiring_faults(
    graph: GraphDef, ops: OpSet, view: GraphView | None = None
) -> Iterator[WiringFault]:
    """All faults in the wiring of ``graph``'s top-level nodes, in time linear in its size."""
    view = view or GraphView(graph)
    yield from _name_faults(graph)
    for name, text in view.dangling:
        yield WiringFault("unknown-input", name, f"its input {text!r} names no node")
    signatures = _Signatures(ops)
    types = {name: signatures.of(node) for name, node in view.nodes.items()}
    for name, (wanted, _) in types.items():
        yield from _input_faults(name, view, wanted, types)
        if view.ops[name] == "Const":
            yield from _constant_faults(name, view)
    _, cyclic = view.order()
    if cyclic and not view.dangling:
        yield WiringFault(
            "cycle",
            cyclic[0],
            f"{len(cyclic)} nodes wait for each other in a circle that is no loop",
        )


def _name_faults(graph: GraphDef) -> Iterator[WiringFault]:
    counts = Counter(node.name for node in graph.node)
    for name, count in counts.items():
        if count > 1:
            yield WiringFault("duplicate-node", name, f"{count} nodes have this name")
        if not NODE_NAME.match(name.lstrip("_")):
            yield WiringFault("bad-node-name", name, "TensorFlow doesn't accept this name")


Types = tuple[tuple[str, bool], ...]
"""NumPy name and whether it's a reference, for each input or output of a node."""


class _Signatures:
    """The types of nodes' inputs and outputs, worked out once for all nodes of one type with the
    same type attributes.
    """

    def __init__(self, ops: OpSet) -> None:
        self._ops = ops
        self._attributes: dict[str, tuple[str, ...] | None] = {}
        self._known: dict[tuple[str | int, ...], tuple[Types | None, Types | None]] = {}

    def of(self, node: NodeDef) -> tuple[Types | None, Types | None]:
        """Of inputs and of outputs; None where the operation isn't known well enough."""
        op = node.op
        if op not in self._attributes:
            self._attributes[op] = self._deciding(op)
        deciding = self._attributes[op]
        if deciding is None:
            return self._worked_out(node)
        key = (op, *(node.attr[name].type if name in node.attr else -1 for name in deciding))
        if key not in self._known:
            self._known[key] = self._worked_out(node)
        return self._known[key]

    def _deciding(self, op: str) -> tuple[str, ...] | None:
        """The attributes that decide a node's types; None where its number of inputs or outputs
        varies.
        """
        definition = self._ops.get(op)
        arguments = (
            [*definition.input_arg, *definition.output_arg] if definition is not None else []
        )
        if any(argument.number_attr or argument.type_list_attr for argument in arguments):
            return None
        return tuple(
            dict.fromkeys(argument.type_attr for argument in arguments if argument.type_attr)
        )

    def _worked_out(self, node: NodeDef) -> tuple[Types | None, Types | None]:
        definition = self._ops.get(node.op)
        if definition is None:
            return None, None
        return argument_types(node, definition.input_arg), argument_types(
            node, definition.output_arg
        )


def _input_faults(
    name: str,
    view: GraphView,
    wanted: Types | None,
    given_by: dict[str, tuple[Types | None, Types | None]],
) -> Iterator[WiringFault]:
    op = view.ops[name]
    edges = view.data[name]
    if wanted is not None and len(wanted) != len(edges):
        yield WiringFault(
            "bad-inputs", name, f"{op} takes {len(wanted)} inputs here and has {len(edges)}"
        )
        return
    for slot, edge in enumerate(edges):
        given = given_by[edge[0]][1] if edge[0] in given_by else None
        if given is None:
            continue
        if edge[1] >= len(given):
            yield WiringFault("unknown-input", name, f"{edge.node} has no output {edge.port}")
        elif wanted is not None and not _fits(given[edge[1]], wanted[slot]):
            said = f"input {slot} ({edge.tensor}) is {_said(given[edge.port])}, {op} takes {_said(wanted[slot])}"
            yield WiringFault("type-mismatch", name, said)


def _fits(given: tuple[str, bool], wanted: tuple[str, bool]) -> bool:
    """A reference can stand for its value, and not the other way round."""
    return given[0] == wanted[0] and (given[1] or not wanted[1])


def _said(kind: tuple[str, bool]) -> str:
    return ("a reference to " if kind[1] else "") + (kind[0] or "an unknown type")


def _constant_faults(name: str, view: GraphView) -> Iterator[WiringFault]:
    """A constant whose bytes don't fit its shape and type; TensorFlow evaluates them at the import."""
    node = view.nodes[name]
    if "value" not in node.attr:
        return
    tensor = node.attr["value"].tensor
    dtype = dtype_name(tensor.dtype)
    if dtype != dtype_name(attribute(node, "dtype").type):
        yield WiringFault(
            "bad-constant",
            name,
            f"its value is {dtype or 'of no type'} and its dtype says otherwise",
        )
        return
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        yield WiringFault("bad-constant", name, "its shape isn't fully known")
        return
    count, width = prod(sizes), element_bytes(dtype)
    values = max(
        (len(items) for field, items in tensor.ListFields() if field.is_repeated), default=0
    )
    if width and tensor.tensor_content and len(tensor.tensor_content) != count * width:
        yield WiringFault(
            "bad-constant",
            name,
            f"it holds {len(tensor.tensor_content)} bytes for {count} values of {dtype}",
        )
    elif not tensor.tensor_content and values > count * (2 if dtype in COMPLEX else 1):
        yield WiringFault(
            "bad-constant", name, f"it holds {values} values where its shape has room for {count}"
        )
