"""How does a value of one branch take part in the exchange, which stands outside of all branches?

Rule: it's led out by a Merge at each conditional, with zeros for the branch that isn't taken, and
what the group made of it is led back in by a Switch at each. So it's there in every step, and every
rank has it: the predicates must be the same on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from orchestrator.graph.graphdef.branches import Branch
from orchestrator.graph.graphdef.edit import (
    Editor,
    identity,
    integer_attribute,
    type_attribute,
)
from orchestrator.graph.graphdef.tensors import dtype_number, element_bytes
from orchestrator.graph.graphdef.view import Edge


def led_out(editor: Editor, name: str, edge: Edge, dtype: str, branches: Sequence[Branch]) -> Edge:
    """The value of ``edge`` outside of ``branches``, zero where they aren't taken.

    Args:
        name: what the new nodes' names begin with.
        branches: the conditionals around it, outermost first.
    """
    for level, (predicate, side) in reversed(list(enumerate(branches))):
        prefix = f"{name}/out/{level}"
        # The zero must be dead where the value is alive, as a Merge takes whichever comes: so it
        # waits for the other branch of the same predicate, by a pivot as tf.cond makes one
        # (``CondContext.pivot``, ``tensorflow/python/ops/control_flow_ops.py``)
        other = _switched(editor, f"{prefix}/other", predicate, "bool", (predicate, 1 - side))
        pivot = identity(editor, f"{prefix}/pivot", other, "bool")
        zero = editor.add("Const", f"{prefix}/zero", controls=[pivot], attributes=_zero(dtype))
        attributes = {"T": type_attribute(dtype), "N": integer_attribute(2)}
        merged = editor.add(
            "Merge", f"{prefix}/merge", [edge, Edge(zero, 0)], attributes=attributes
        )
        edge = Edge(merged, 0)
    return edge


def led_in(editor: Editor, name: str, edge: Edge, dtype: str, branches: Sequence[Branch]) -> Edge:
    """The value of ``edge``, which stands outside, on ``branches``."""
    for level, branch in enumerate(branches):
        edge = _switched(editor, f"{name}/in/{level}", edge, dtype, branch)
    return edge


def awaited(editor: Editor, name: str, source: str, branches: Sequence[Branch]) -> str:
    """A node outside of ``branches`` that waits for ``source`` where it runs, and for nothing where
    it doesn't.
    """
    if not branches:
        return source
    done = editor.add("Const", f"{name}/done", controls=[source], attributes=_zero("bool"))
    return led_out(editor, name, Edge(done, 0), "bool", branches).node


def _switched(editor: Editor, name: str, edge: Edge, dtype: str, branch: Branch) -> Edge:
    predicate, side = branch
    switch = editor.add("Switch", name, [edge, predicate], attributes={"T": type_attribute(dtype)})
    return Edge(switch, side)


def _zero(dtype: str) -> dict[str, AttrValue]:
    value = AttrValue()
    value.tensor.dtype = dtype_number(dtype)
    value.tensor.tensor_shape.SetInParent()
    value.tensor.tensor_content = bytes(element_bytes(dtype))
    return {"dtype": type_attribute(dtype), "value": value}
