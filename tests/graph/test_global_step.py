"""Which variable counts the steps of a graph, and by how much does a run move it?"""

from __future__ import annotations

import pytest
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.types_pb2 import DT_BOOL
from tensorboard.compat.proto.variable_pb2 import VariableDef

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.variables.global_step import find_step
from orchestrator.graph.worker_graph import StepCounter
from tests.graph.synthetic import FLOAT, Drawing


class Counting(Drawing):
    """A graph with scalars that its target ``train`` writes."""

    def __init__(self, *declared: str) -> None:
        super().__init__()
        self.scalar("one", 1.0)
        self.scalar("many", 64.0)
        self.placeholder("x", ())
        self.node("which", "Placeholder", dtype=AttrValue(type=DT_BOOL))
        self.node("split", "Switch", ["one", "which"], T=FLOAT)
        self.writers: list[str] = []
        for name in declared:
            told = VariableDef(variable_name=f"{name}:0").SerializeToString()
            self.meta.collection_def["global_step"].bytes_list.value.append(told)

    def write(self, op: str, variable: str, value: str) -> Counting:
        if variable not in {node.name for node in self.meta.graph_def.node}:
            self.variable(variable, ())
        self.writers.append(self.node(f"write/{len(self.writers)}", op, [variable, value], T=FLOAT))
        return self

    def step(self) -> StepCounter | None:
        self.node("train", "NoOp", [f"^{name}" for name in self.writers])
        return find_step(Graph(self.meta, merged(self.meta)), ["train"])


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        (Counting().write("AssignAdd", "steps", "one"), StepCounter("steps", 1)),
        (Counting().write("AssignAdd", "steps", "many"), None),
        (Counting().write("AssignAdd", "steps", "x"), None),
        (Counting("steps").write("AssignAdd", "steps", "many"), StepCounter("steps", 64)),
        (Counting("steps").write("AssignAdd", "steps", "x"), StepCounter("steps", None)),
        (Counting("steps").write("Assign", "steps", "x"), StepCounter("steps", None)),
        # two minimize in one group
        (
            Counting("steps").write("AssignAdd", "steps", "one").write("AssignAdd", "steps", "one"),
            StepCounter("steps", 2),
        ),
        # in a conditional: loss scaling that skips
        (Counting("steps").write("AssignAdd", "steps", "split:1"), StepCounter("steps", None)),
        # a count of gathered batches that starts anew is no step
        (Counting().write("AssignAdd", "runs", "one").write("Assign", "runs", "x"), None),
        (
            Counting()
            .write("AssignAdd", "runs", "one")
            .write("Assign", "runs", "x")
            .write("AssignAdd", "steps", "one"),
            StepCounter("steps", 1),
        ),
        (Counting("others").write("AssignAdd", "steps", "one"), StepCounter("steps", 1)),
    ],
)
def test_step_is_what_the_target_counts_and_its_increment_is_read_off_the_graph(
    graph: Counting, found: StepCounter | None
) -> None:
    assert graph.step() == found
