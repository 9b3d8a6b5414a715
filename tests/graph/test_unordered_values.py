"""Is a value of the batch let go of where it waits for a writer that it has nothing to do with, and
is nothing else?
"""

from __future__ import annotations

from orchestrator.config import RunConfig
from orchestrator.graph.gradients.unordered_values import let_go
from orchestrator.graph.graphdef.flow import read_flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.plan import plan
from tests.graph.synthetic import FLOAT, Drawing


def behind_the_step(value: str = "squared") -> Drawing:
    """``seen`` is added ``value`` to behind the update of ``w``: the batch's squares, or those and
    the new weights.
    """
    drawing = Drawing()
    drawing.placeholder("x", (4, 4))
    drawing.scalar("rate", 0.1)
    drawing.variable("w", (4, 4))
    drawing.variable("seen", (4, 4), trainable=False)
    drawing.node("gradients/start", "Identity", ["x"], T=FLOAT)
    drawing.node("gradients/w", "MatMul", ["gradients/start", "w/read"], T=FLOAT)
    drawing.node("update", "ApplyGradientDescent", ["w", "rate", "gradients/w"], T=FLOAT)
    drawing.node("squared", "Square", ["x", "^update"], T=FLOAT)
    drawing.node("doubled", "Add", ["squared", "squared"], T=FLOAT)
    drawing.node("with_weights", "Add", ["doubled", "w/read"], T=FLOAT)
    drawing.node("count", "AssignAdd", ["seen", value], T=FLOAT)
    drawing.node("train", "NoOp", ["^update", "^count"])
    return drawing


def freed(drawing: Drawing, value: str) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    graph = Graph(drawing.meta, merged(drawing.meta))
    found = let_go(graph, read_flow(graph.view), "train", [Edge(value, 0)])
    return found.dropped, found.added


def test_value_that_waits_for_nothing_of_its_own_is_let_go_and_its_writer_keeps_its_order() -> None:
    assert freed(behind_the_step(), "squared") == ({"squared": {"update"}}, {"count": ["update"]})


def test_what_reads_a_variable_waits_in_the_place_of_the_value_that_it_takes() -> None:
    dropped, added = freed(behind_the_step("with_weights"), "with_weights")
    assert dropped == {"squared": {"update"}}
    assert added == {"with_weights": ["update"]}


def test_value_that_is_computed_from_a_variable_is_not_let_go() -> None:
    drawing = behind_the_step("late")
    drawing.node("late", "MatMul", ["w/read", "w/read", "^update"], T=FLOAT)
    assert freed(drawing, "late") == ({}, {})


def test_group_exchanges_a_value_that_is_built_behind_the_step() -> None:
    config = RunConfig(source="x", workers=2, input="a:b", train_op=["train"])
    found = plan(behind_the_step("doubled").meta, config)
    assert "stands in a loop, a conditional or behind another writer" not in found.group_refused
