"""How does a key reach the random operations inside function bodies?

Rule: as one more argument. A function that draws gets a copy with an int64 ``[2]`` argument, called
by those who train alone, and hands a key on to the functions that it calls itself; a loop's body
returns the key moved on, so that each iteration draws anew. What a dataset maps over its elements
isn't called by the step and keeps its hidden state, as does a body with loops of the old kind.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tensorboard.compat.proto.function_pb2 import FunctionDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.types_pb2 import DT_INT64

from orchestrator.graph.graphdef.edit import Editor, constant_attributes, type_attribute
from orchestrator.graph.graphdef.function_body import FunctionBody
from orchestrator.graph.graphdef.library import functions_called_by, label
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.random.node_key import node_key
from orchestrator.graph.random.stateless import STATELESS

KEY = "tfresume_key"
"""Name of the argument; no slash, which the names of arguments may not hold."""
WHILES = frozenset({"While", "StatelessWhile"})
"""Loops as calls: of their two functions only the body gives back what goes round."""
CALLS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "PartitionedCall": (("f",), "Tin"),
    "StatefulPartitionedCall": (("f",), "Tin"),
    "If": (("then_branch", "else_branch"), "Tin"),
    "StatelessIf": (("then_branch", "else_branch"), "Tin"),
    "Case": (("branches",), "Tin"),
    "StatelessCase": (("branches",), "Tin"),
    "While": (("cond", "body"), "T"),
    "StatelessWhile": (("cond", "body"), "T"),
}
"""Operations that call functions with their own inputs: the attributes that name them, and the one
with the inputs' types.
"""


class KeyedFunctions:
    """Copies of a graph's functions that draw by key, in the editor's graph."""

    def __init__(self, editor: Editor, graph: Graph) -> None:
        self._library = editor.meta.graph_def.library
        self._graph = graph
        self._functions = {function.signature.name: function for function in self._library.function}
        self._draws: dict[str, bool] = {}
        self._made: dict[tuple[str, bool], str] = {}
        self.done: list[str] = []

    def reaches(self, node: NodeDef) -> bool:
        """Whether the node calls a function that draws, and can hand it a key."""
        passes = node.op in CALLS or node.op in self._functions
        return passes and any(
            self.draws(name) for name in functions_called_by(node, self._functions)
        )

    def draws(self, name: str) -> bool:
        """Whether a function, or one that it calls, draws in a way that has a stateless form."""
        if name not in self._draws:
            self._draws[name] = False  # until shown, which also ends a circle of calls
            nodes = self._functions[name].node_def
            # The key is an argument, which stands outside of the frames of a loop of the old kind;
            # only in the graph itself it's brought into them (``loop_keys``)
            looping = any(node.op in ("Enter", "RefEnter") for node in nodes)
            self._draws[name] = not looping and any(
                node.op in STATELESS or self.reaches(node) for node in nodes
            )
        return self._draws[name]

    def pass_key(self, node: NodeDef, key: str) -> None:
        """Let ``node`` call copies of its functions, with ``key`` as their last argument."""
        attributes, types = CALLS.get(node.op, ((), ""))
        if node.op in self._functions:
            node.op = self._copy(node.op, loops=False)
        for attribute in attributes:
            value = node.attr[attribute]
            for called in [value.func] if value.WhichOneof("value") == "func" else value.list.func:
                called.name = self._copy(
                    called.name, loops=node.op in WHILES and attribute == "body"
                )
        if types:
            node.attr[types].list.type.append(DT_INT64)
        if node.op in WHILES:
            _one_more_output(node)
        # Behind the other data inputs: those that only order nodes come last (``node_def.proto``)
        node.input.insert(sum(not text.startswith("^") for text in node.input), key)

    def _copy(self, name: str, *, loops: bool) -> str:
        """The copy of a function that takes a key; with ``loops`` it returns the next iteration's
        too.
        """
        if (name, loops) not in self._made:
            copy = self._library.function.add()
            copy.CopyFrom(self._functions[name])
            copy.signature.name = self._made[name, loops] = (
                f"{name}_tfresume{'_body' if loops else ''}"
            )
            copy.signature.input_arg.add(name=KEY, type=DT_INT64)
            self._rewrite(name, FunctionBody(copy, self._graph.ops))
            if loops:
                _return_next(copy, FunctionBody(copy, self._graph.ops), name)
        return self._made[name, loops]

    def _rewrite(self, name: str, body: FunctionBody) -> None:
        # The other branch of a conditional, say: it takes the key, since both are called alike
        if not self.draws(name):
            return
        for node in list(body.function.node_def):
            if node.op in STATELESS:
                _make_stateless(body, node, _key_of(body, name, node.name))
                self.done.append(label(name, node.name))
            elif self.reaches(node):
                self.pass_key(node, body.text(_key_of(body, name, node.name)))


def _one_more_output(loop: NodeDef) -> None:
    """A loop gives the key back; lists of its outputs' shapes must be as long, and TensorFlow's own
    note can be left out.
    """
    if "output_shapes" in loop.attr and loop.attr["output_shapes"].list.shape:
        loop.attr["output_shapes"].list.shape.add().dim.add(size=2)
    if "_output_shapes" in loop.attr:
        del loop.attr["_output_shapes"]


def _key_of(body: FunctionBody, function: str, node: str) -> Edge:
    """The key that a node of the body draws with."""
    own = body.add(
        "Const",
        f"random/{node}/own",
        attributes=constant_attributes(node_key(f"{function}/{node}")),
    )
    attributes = {"T": type_attribute("int64")}
    return Edge(
        body.add(
            "BitwiseXor", f"random/{node}/key", [Edge(KEY, 0), Edge(own, 0)], attributes=attributes
        ),
        0,
    )


def _make_stateless(body: FunctionBody, node: NodeDef, key: Edge) -> None:
    """As ``stateless.make_stateless``."""
    old = NodeDef()
    old.CopyFrom(node)
    op, inputs, attributes = STATELESS[old.op](body, old, body.data(old), key)
    body.change_op(node, op, inputs, attributes)


def _return_next(function: FunctionDef, body: FunctionBody, name: str) -> None:
    """Let a loop's body return its key moved on."""
    # Odd, so never zero: no two iterations have one key
    stride = np.abs(node_key(name) >> 32) * 2 + 1
    constant = body.add("Const", "random/stride", attributes=constant_attributes(stride))
    following = body.add(
        "AddV2",
        "random/following",
        [Edge(KEY, 0), Edge(constant, 0)],
        attributes={"T": type_attribute("int64")},
    )
    function.signature.output_arg.add(name=KEY, type=DT_INT64)
    function.ret[KEY] = body.text(Edge(following, 0))
