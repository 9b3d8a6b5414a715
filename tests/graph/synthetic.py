"""How does a graph of any size look? A deep chain of layers with gradients and updates, written as
protos without TensorFlow.

Rule: node for node what TensorFlow 1 would have written for ``h = h @ w_i`` and plain gradient
descent with a moving average.
"""

from __future__ import annotations

from collections.abc import Iterable

from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.types_pb2 import DT_FLOAT
from tensorboard.compat.proto.variable_pb2 import VariableDef

NODES_A_LAYER = 9
FLOAT = AttrValue(type=DT_FLOAT)


class Drawing:
    """A graph drawn node by node."""

    def __init__(self, producer: int = 26, *, shapes: bool = False) -> None:
        """With ``shapes`` every node tells its outputs' shapes, as tf.train.Saver's export has it."""
        self.meta = MetaGraphDef()
        self.meta.graph_def.versions.producer = producer
        self._shapes = shapes

    def node(self, name: str, op: str, inputs: Iterable[str] = (), **attributes: AttrValue) -> str:
        """Add a node; its name."""
        node: NodeDef = self.meta.graph_def.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            node.attr[key].CopyFrom(value)
        if self._shapes:
            shape = node.attr["_output_shapes"].list.shape.add()
            for size in (4, 4):
                shape.dim.add(size=size)
        return name

    def scalar(self, name: str, value: float, controls: Iterable[str] = ()) -> str:
        """Add a float constant."""
        attribute = AttrValue()
        attribute.tensor.dtype = DT_FLOAT
        attribute.tensor.tensor_shape.SetInParent()
        attribute.tensor.float_val.append(value)
        return self.node(
            name, "Const", [f"^{control}" for control in controls], dtype=FLOAT, value=attribute
        )

    def variable(self, name: str, shape: tuple[int, ...], trainable: bool = True) -> str:
        """Add a reference variable with initialiser and read; its name."""
        attribute = AttrValue()
        attribute.shape.SetInParent()
        for size in shape:
            attribute.shape.dim.add(size=size)
        text = AttrValue(s=b"")
        self.node(
            name, "VariableV2", dtype=FLOAT, shape=attribute, container=text, shared_name=text
        )
        self.node(f"{name}/read", "Identity", [name], T=FLOAT)
        self.node(f"{name}/Assign", "Assign", [name, self._initial(name)], T=FLOAT)
        definition = VariableDef(
            variable_name=f"{name}:0",
            initializer_name=f"{name}/Assign",
            snapshot_name=f"{name}/read:0",
        )
        for key in ("variables", *(["trainable_variables"] if trainable else [])):
            self.meta.collection_def[key].bytes_list.value.append(definition.SerializeToString())
        return name

    def _initial(self, name: str) -> str:
        return self.scalar(f"{name}/initial", 0.0)

    def placeholder(self, name: str, shape: tuple[int, ...]) -> str:
        """Add a float placeholder; -1 is an unknown dimension."""
        attribute = AttrValue()
        for size in shape:
            attribute.shape.dim.add(size=size)
        return self.node(name, "Placeholder", dtype=FLOAT, shape=attribute)


def deep_chain(nodes: int, *, shapes: bool = False) -> MetaGraphDef:
    """A chain of about so many nodes; the train op is ``train``."""
    drawing = Drawing(shapes=shapes)
    value = drawing.placeholder("x", (-1, 4))
    rate = drawing.scalar("rate", 0.1)
    gradient = drawing.node("gradients/start", "Identity", [value], T=FLOAT)
    updates = []
    for layer in range(max(1, nodes // NODES_A_LAYER)):
        weights = drawing.variable(f"layer_{layer}/w", (4, 4))
        value = drawing.node(f"layer_{layer}/out", "MatMul", [value, f"{weights}/read"], T=FLOAT)
        gradient = drawing.node(
            f"gradients/layer_{layer}/grad", "MatMul", [gradient, f"{weights}/read"], T=FLOAT
        )
        part = drawing.node(f"gradients/layer_{layer}/w", "MatMul", [gradient, value], T=FLOAT)
        updates.append(
            drawing.node(
                f"sgd/{layer}/update", "ApplyGradientDescent", [weights, rate, part], T=FLOAT
            )
        )
        drawing.node(f"layer_{layer}/summary", "Identity", [value], T=FLOAT)
    drawing.node("train", "NoOp", [f"^{name}" for name in updates])
    drawing.meta.collection_def["train_op"].node_list.value.append("train")
    return drawing.meta
