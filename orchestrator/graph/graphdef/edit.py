"""How is a graph changed without losing its wiring?

Rule: an editor works on a MetaGraphDef of its own (the caller's is never touched), every new node's
name stands under ``tfresume/`` unless the graph that is saved has it too, and an edit touches the nodes it names and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.tensors import dtype_number, fill_shape
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.worker_graph import Shape

OWN = "tfresume/"
"""Prefix of every node that tfresume adds to a graph."""


class Editor:
    """Changes to one graph, in place on a copy.

    Attributes:
        meta: the copy.
    """

    def __init__(self, meta: MetaGraphDef) -> None:
        self.meta = MetaGraphDef()
        self.meta.CopyFrom(meta)
        self._nodes: dict[str, NodeDef] = {node.name: node for node in self.meta.graph_def.node}
        self._snapshot: Graph | None = None

    def graph(self, ops: OpSet) -> Graph:
        """The graph as it is now; the same object until something is edited."""
        if self._snapshot is None:
            self._snapshot = Graph(self.meta, ops)
        return self._snapshot

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def node(self, name: str) -> NodeDef:
        """The node of this name, to be changed in place."""
        self._snapshot = None
        return self._nodes[name]

    def add(
        self,
        op: str,
        name: str,
        inputs: Iterable[Edge] = (),
        *,
        controls: Iterable[str] = (),
        attributes: Mapping[str, AttrValue] | None = None,
        device: str = "",
        own: bool = True,
    ) -> str:
        """Add a node; its full name.

        Args:
            own: it's for this run alone, and its name stands under ``tfresume/``; else it becomes a
                part of the graph that is saved.

        Raises:
            ValueError: there is a node of this name already.
        """
        self._snapshot = None
        full = name if name.startswith(OWN) or not own else OWN + name
        if full in self._nodes:
            raise ValueError(f"the graph has a node {full} already")
        node = self.meta.graph_def.node.add(name=full, op=op, device=device)
        node.input.extend(edge.text for edge in inputs)
        node.input.extend(f"^{source}" for source in dict.fromkeys(controls))
        for key, value in (attributes or {}).items():
            node.attr[key].CopyFrom(value)
        self._nodes[full] = node
        return full

    def clone(self, name: str, new_name: str) -> str:
        """Add a copy of a node, inputs and attributes included."""
        self._snapshot = None
        node = self.meta.graph_def.node.add()
        node.CopyFrom(self._nodes[name])
        node.name = new_name
        self._nodes[new_name] = node
        return new_name

    def set_input(self, consumer: str, slot: int, edge: Edge) -> None:
        """Let data input ``slot`` of ``consumer`` take ``edge``."""
        self.node(consumer).input[slot] = edge.text

    def add_controls(self, name: str, sources: Iterable[str]) -> None:
        """Let ``name`` wait for ``sources`` as well."""
        node = self.node(name)
        present = set(node.input)
        node.input.extend(
            text for source in dict.fromkeys(sources) if (text := f"^{source}") not in present
        )

    def drop_controls(self, name: str, sources: set[str]) -> None:
        """Let ``name`` no longer wait for ``sources``."""
        node = self.node(name)
        kept = [text for text in node.input if not (text.startswith("^") and text[1:] in sources)]
        del node.input[:]
        node.input.extend(kept)

    def replace_control(self, name: str, old: str, new: str) -> None:
        """Let ``name`` wait for ``new`` in place of ``old``."""
        self.drop_controls(name, {old})
        self.add_controls(name, [new])

    def change_op(
        self,
        name: str,
        op: str,
        inputs: Iterable[Edge],
        controls: Iterable[str],
        attributes: Mapping[str, AttrValue],
    ) -> None:
        """Make a node another operation under the same name; device and colocation stay, other
        attributes go.
        """
        rewritten(
            self.node(name),
            op,
            [*(edge.text for edge in inputs), *(f"^{source}" for source in controls)],
            attributes,
        )


def rewritten(
    node: NodeDef, op: str, inputs: Iterable[str], attributes: Mapping[str, AttrValue]
) -> None:
    """Make a node another operation in place; name, device and colocation stay.

    Args:
        inputs: as they're written in the node, those that it merely waits for among them.
    """
    place = list(node.attr["_class"].list.s) if "_class" in node.attr else []
    node.op = op
    del node.input[:]
    node.input.extend(inputs)
    node.attr.clear()
    for key, value in attributes.items():
        node.attr[key].CopyFrom(value)
    if place:
        node.attr["_class"].list.s.extend(place)


def type_attribute(dtype: str) -> AttrValue:
    """A type attribute, from a NumPy name."""
    return AttrValue(type=dtype_number(dtype))


def integer_attribute(value: int) -> AttrValue:
    """An integer attribute."""
    return AttrValue(i=value)


def shape_attribute(shape: Shape) -> AttrValue:
    """A shape attribute."""
    value = AttrValue()
    value.shape.SetInParent()
    fill_shape(value.shape, shape)
    return value


def constant_attributes(array: np.ndarray) -> dict[str, AttrValue]:
    """The attributes of a Const that holds ``array``."""
    value = AttrValue()
    value.tensor.dtype = dtype_number(array.dtype.name)
    value.tensor.tensor_shape.SetInParent()
    fill_shape(value.tensor.tensor_shape, array.shape)
    value.tensor.tensor_content = np.ascontiguousarray(array).tobytes()
    return {"dtype": type_attribute(array.dtype.name), "value": value}


def strings_attributes(values: Sequence[str]) -> dict[str, AttrValue]:
    """The attributes of a Const that holds a vector of strings."""
    value = AttrValue()
    value.tensor.dtype = dtype_number("string")
    value.tensor.tensor_shape.dim.add(size=len(values))
    value.tensor.string_val.extend(text.encode() for text in values)
    return {"dtype": type_attribute("string"), "value": value}


def identity(editor: Editor, name: str, edge: Edge, dtype: str) -> str:
    """Add an Identity of ``edge``; its name."""
    return editor.add("Identity", name, [edge], attributes={"T": type_attribute(dtype)})
