"""How are nodes added to the body of a function?

Rule: as an ``Editor`` does it for a graph; only that a body's inputs name the output's argument
(``node:output:0``). Edges of nodes that the body had already are written as they stand there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.function_pb2 import FunctionDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.edit import OWN, rewritten
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.view import Edge


class FunctionBody:
    """Changes to one function's body, in place."""

    def __init__(self, function: FunctionDef, ops: OpSet) -> None:
        self.function = function
        self._ops = ops
        self._added: dict[str, str] = {}

    def add(
        self,
        op: str,
        name: str,
        inputs: Iterable[Edge] = (),
        *,
        controls: Iterable[str] = (),
        attributes: Mapping[str, AttrValue] | None = None,
        device: str = "",
    ) -> str:
        """As ``Editor.add``."""
        full = OWN + name
        node = self.function.node_def.add(name=full, op=op, device=device)
        node.input.extend(self.text(edge) for edge in inputs)
        node.input.extend(f"^{source}" for source in controls)
        for key, value in (attributes or {}).items():
            node.attr[key].CopyFrom(value)
        self._added[full] = op
        return full

    def data(self, node: NodeDef) -> list[Edge]:
        """The data inputs of a node."""
        return [Edge(text, 0) for text in node.input if not text.startswith("^")]

    def text(self, edge: Edge) -> str:
        """An edge as the inputs of a function's nodes are written."""
        if edge.node not in self._added:
            return edge.text
        outputs = self._ops.ops[self._added[edge.node]].output_arg
        return f"{edge.node}:{outputs[edge.port].name}:0"

    def change_op(
        self, node: NodeDef, op: str, inputs: Iterable[Edge], attributes: Mapping[str, AttrValue]
    ) -> None:
        """Make a node another operation; what it waits for stays."""
        waits = [text for text in node.input if text.startswith("^")]
        rewritten(node, op, [*(self.text(edge) for edge in inputs), *waits], attributes)
