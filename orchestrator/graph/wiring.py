"""Is the graph's wiring sound?

Rule: what TensorFlow's import demands of the nodes' inputs, all of it at once and without TensorFlow: names that are unique and legal,
inputs that exist, as many as the operation takes and of its types, and no cycle but a loop's. A flipped byte in a file shows up here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tensorboard.compat.proto.graph_pb2 import GraphDef

from orchestrator.graph.opset import OpSet
from orchestrator.graph.tensors import input_dtypes, output_dtypes
from orchestrator.graph.view import GraphView

NODE_NAME = re.compile(r"^[A-Za-z0-9.][A-Za-z0-9_>./\\-]*$", re.ASCII)
"""TensorFlow's rule for names in a GraphDef (``ops._VALID_OP_NAME_REGEX``), underscores in front excepted."""


@dataclass(frozen=True)
class WiringFault:
    """One thing that TensorFlow's import would stumble over.

    Attributes:
        code: ``duplicate-node``, ``bad-node-name``, ``unknown-input``, ``bad-inputs``, ``type-mismatch`` or ``cycle``.
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


def _output_types(view: GraphView, ops: OpSet) -> dict[str, tuple[str, ...] | None]:
    """Node name to the types of its outputs, None where its operation isn't known well enough."""
    types: dict[str, tuple[str, ...] | None] = {}
    for name, node in view.nodes.items():
        definition = ops.get(node.op)
        found = output_dtypes(node, definition)
        types[name] = None if definition is None or (definition.output_arg and not found) else found
    return types


def _input_faults(name: str, view: GraphView, ops: OpSet, types: dict[str, tuple[str, ...] | None]) -> Iterator[WiringFault]:
    node = view.nodes[name]
    definition = ops.get(node.op)
    edges = view.data[name]
    wanted = None if definition is None else input_dtypes(node, definition)
    if wanted is not None and len(wanted) != len(edges):
        yield WiringFault("bad-inputs", name, f"{node.op} takes {len(wanted)} inputs here and has {len(edges)}")
        return
    for slot, edge in enumerate(edges):
        given = types.get(edge.node)
        if given is None:
            continue
        if edge.port >= len(given):
            yield WiringFault("unknown-input", name, f"{edge.node} has no output {edge.port}")
        elif wanted is not None and given[edge.port] != wanted[slot]:
            said = f"input {slot} ({edge.tensor}) is {given[edge.port] or 'of no known type'}, {node.op} takes {wanted[slot] or 'another'}"
            yield WiringFault("type-mismatch", name, said)
