"""What is seen between a gradient and its variable where no scope tells where gradients end, and
which of its arguments a function writes?
"""

from __future__ import annotations

import pytest
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.function_pb2 import FunctionDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.gradients.standing_between import nonlinear_between
from orchestrator.graph.graphdef.function_writes import FunctionWrites
from orchestrator.graph.graphdef.gradient_scopes import proven_scopes
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.graphdef.view import Edge
from tests.graph.synthetic import FLOAT, Drawing


def between(op: str, *others: str) -> str:
    """What is found between ``MatMul`` of a batch and a variable where ``op`` of it and of
    ``others`` (``gradient``, ``norm``, ``rows``, ``rate``) stands there.
    """
    drawing = Drawing(shapes=True)
    drawing.placeholder("x", (-1, 4))
    drawing.scalar("rate", 0.1)
    drawing.node("gradient", "MatMul", ["x", "x"], T=FLOAT)
    drawing.node("norm", "L2Loss", ["gradient"], T=FLOAT)
    drawing.node("size", "Shape", ["x"], T=FLOAT)
    drawing.node("rows", "Cast", ["size"])
    drawing.node("last", op, ["gradient", *others], T=FLOAT)
    drawing.node("given", "Identity", ["last"], T=FLOAT)
    graph = Graph(drawing.meta, merged(drawing.meta))
    local = graph.view.descendants(["x"])
    return nonlinear_between(graph, local, Edge("given", 0), (4, 4))


@pytest.mark.parametrize(
    ("op", "others", "found"),
    [
        ("Mul", ["rate"], ""),
        ("RealDiv", ["rows"], ""),
        ("AddV2", ["gradient"], ""),
        ("Mul", ["norm"], "last"),
        ("RealDiv", ["norm"], "last"),
        ("Mul", ["gradient"], "last"),
        ("Minimum", ["rate"], "last"),
        ("Square", [], "last"),
        ("MatMul", ["norm"], ""),
    ],
)
def test_operation_that_a_mean_can_not_pass_is_found_before_the_variable(
    op: str, others: list[str], found: str
) -> None:
    assert between(op, *others) == found


def test_scope_with_one_name_like_a_gradients_is_proven_by_its_beginning_or_its_own_name() -> None:
    nodes = {"loss", "mul", "train/loss_grad/clip", "a/mul_grad/Mul", "a/grad_ys_0"}
    nodes |= {"gradients/mul_grad/Mul"}
    assert proven_scopes(nodes, nodes) == {"a", "gradients"}
    two = {"loss", "mul", "b/loss_grad/Mul", "b/mul_grad/Mul"}
    assert proven_scopes(two, two) == {"b"}


def function(name: str, arguments: list[str], *nodes: NodeDef) -> FunctionDef:
    made = FunctionDef()
    made.signature.name = name
    for argument in arguments:
        made.signature.input_arg.add(name=argument)
    made.node_def.extend(nodes)
    return made


def call(op: str, *inputs: str, **functions: str) -> NodeDef:
    node = NodeDef(name=f"{op}_node", op=op, input=inputs)
    for key, name in functions.items():
        node.attr[key].CopyFrom(AttrValue())
        node.attr[key].func.name = name
    return node


def test_call_writes_the_arguments_that_its_body_and_what_it_calls_write() -> None:
    handed_on = NodeDef(name="handle", op="Identity", input=["to"])
    copy = function(
        "copy", ["of", "to"], handed_on, call("AssignVariableOp", "handle:output:0", "of")
    )
    outer = function("outer", ["a", "b", "c"], call("StatefulPartitionedCall", "c", "a", f="copy"))
    library = {one.signature.name: one for one in (copy, outer)}
    writes = FunctionWrites(library, lambda op: op == "AssignVariableOp")
    assert writes.inputs_written(call("StatefulPartitionedCall", "p", "q", f="copy")) == {1}  # type: ignore[comparison-overlap]
    assert writes.inputs_written(call("PartitionedCall", "p", "q", "r", f="outer")) == {0}  # type: ignore[comparison-overlap]
    assert writes.inputs_written(call("If", "bool", "p", "q", then_branch="copy")) == {2}  # type: ignore[comparison-overlap]
    assert writes.inputs_written(call("MapDataset", "p", "q", f="copy")) is None
