"""Is the graph's wiring sound?

Rule: what TensorFlow's import demands of the nodes' inputs, all of it at once and without TensorFlow: names that are unique and legal,
inputs that exist, as many as the operation takes and of its types, and no cycle but a loop's. A flipped byte in a file shows up here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from tensorboard.compat.proto.graph_pb2 import GraphDef

from orchestrator.graph.attributes import attribute
from orchestrator.graph.opset import OpSet
from orchestrator.graph.tensors import COMPLEX, argument_types, dtype_name, element_bytes
from orchestrator.graph.view import GraphView

NODE_NAME = re.compile(r"^[A-Za-z0-9.][A-Za-z0-9_>./\\-]*$", re.ASCII)
"""TensorFlow's rule for names in a GraphDef (``ops._VALID_OP_NAME_REGEX``), underscores in front excepted."""


@dataclass(frozen=True)
class WiringFault:
    """One thing that TensorFlow's import would stumble over.

    Attributes:
        code: ``duplicate-node``, ``bad-node-name``, ``unknown-input``, ``bad-inputs``, ``type-mismatch``, ``bad-constant`` or ``cycle``.
        node: the node concerned.
        detail: what is wrong with it.
    """

    code: str
    node: str
    detail: str


def wiring_faults(graph: GraphDef, ops: OpSet, view: GraphView | None = None) -> Iterator[WiringFault]:
    """All faults in the wiring of ``graph``'s top-level nodes, in time linear in its size."""
    view = view or GraphView(graph)
    yield from _name_faults(graph)
    for name, text in view.dangling:
        yield WiringFault("unknown-input", name, f"its input {text!r} names no node")
    types = _output_types(view, ops)
    for name in view.nodes:
        yield from _input_faults(name, view, ops, types)
        yield from _constant_faults(name, view)
    _, cyclic = view.order()
    if cyclic and not view.dangling:
        yield WiringFault("cycle", cyclic[0], f"{len(cyclic)} nodes wait for each other in a circle that is no loop")


def _name_faults(graph: GraphDef) -> Iterator[WiringFault]:
    counts = Counter(node.name for node in graph.node)
    for name, count in counts.items():
        if count > 1:
            yield WiringFault("duplicate-node", name, f"{count} nodes have this name")
        if not NODE_NAME.match(name.lstrip("_")):
            yield WiringFault("bad-node-name", name, "TensorFlow doesn't accept this name")


Types = tuple[tuple[str, bool], ...]
"""NumPy name and whether it's a reference, for each input or output of a node."""


def _output_types(view: GraphView, ops: OpSet) -> dict[str, Types | None]:
    """Node name to the types of its outputs, None where its operation isn't known well enough."""
    types: dict[str, Types | None] = {}
    for name, node in view.nodes.items():
        definition = ops.get(node.op)
        types[name] = None if definition is None else argument_types(node, definition.output_arg)
    return types


def _input_faults(name: str, view: GraphView, ops: OpSet, types: dict[str, Types | None]) -> Iterator[WiringFault]:
    node = view.nodes[name]
    definition = ops.get(node.op)
    edges = view.data[name]
    wanted = None if definition is None else argument_types(node, definition.input_arg)
    if wanted is not None and len(wanted) != len(edges):
        yield WiringFault("bad-inputs", name, f"{node.op} takes {len(wanted)} inputs here and has {len(edges)}")
        return
    for slot, edge in enumerate(edges):
        given = types.get(edge.node)
        if given is None:
            continue
        if edge.port >= len(given):
            yield WiringFault("unknown-input", name, f"{edge.node} has no output {edge.port}")
        elif wanted is not None and not _fits(given[edge.port], wanted[slot]):
            said = f"input {slot} ({edge.tensor}) is {_said(given[edge.port])}, {node.op} takes {_said(wanted[slot])}"
            yield WiringFault("type-mismatch", name, said)


def _fits(given: tuple[str, bool], wanted: tuple[str, bool]) -> bool:
    """A reference can stand for its value, and not the other way round."""
    return given[0] == wanted[0] and (given[1] or not wanted[1])


def _said(kind: tuple[str, bool]) -> str:
    return ("a reference to " if kind[1] else "") + (kind[0] or "an unknown type")


def _constant_faults(name: str, view: GraphView) -> Iterator[WiringFault]:
    """A constant whose bytes don't fit its shape and type; TensorFlow evaluates them at the import."""
    node = view.nodes[name]
    if node.op != "Const" or "value" not in node.attr:
        return
    tensor = node.attr["value"].tensor
    dtype = dtype_name(tensor.dtype)
    if dtype != dtype_name(attribute(node, "dtype").type):
        yield WiringFault("bad-constant", name, f"its value is {dtype or 'of no type'} and its dtype says otherwise")
        return
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        yield WiringFault("bad-constant", name, "its shape isn't fully known")
        return
    count, width = prod(sizes), element_bytes(dtype)
    values = max((len(items) for field, items in tensor.ListFields() if field.is_repeated), default=0)
    if width and tensor.tensor_content and len(tensor.tensor_content) != count * width:
        yield WiringFault("bad-constant", name, f"it holds {len(tensor.tensor_content)} bytes for {count} values of {dtype}")
    elif not tensor.tensor_content and values > count * (2 if dtype in COMPLEX else 1):
        yield WiringFault("bad-constant", name, f"it holds {values} values where its shape has room for {count}")
