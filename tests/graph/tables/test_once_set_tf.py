"""Is an initial value that follows from a table, which TF1 wraps into a conditional, made by row as
the table's rows are, in both forms of conditionals?
"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.tables.once_set import value_once_set
from tests import forked

pytestmark = [pytest.mark.tf, pytest.mark.slow]

WRITE = """
import sys
import tensorflow.compat.v1 as tf
where = sys.argv[1]
for flow in ("v1", "v2"):
    (tf.enable_control_flow_v2 if flow == "v2" else tf.disable_control_flow_v2)()
    for kind in ("ref", "resource"):
        with tf.Graph().as_default():
            start = tf.random_normal_initializer()
            table = tf.get_variable("table", [9, 2], initializer=start, use_resource=kind == "resource")
            other = tf.get_variable("other", [9, 2], initializer=start, use_resource=kind == "resource")
            # As `initialized_value` does, which variables of resources no longer have
            value = tf.cond(tf.is_variable_initialized(table), table.read_value, lambda: table.initial_value)
            tf.identity(value, name="once")
            copy = tf.Variable(table, name="copy", use_resource=kind == "resource")
            tf.identity(copy.initial_value, name="first")
            asked = tf.is_variable_initialized(other)
            tf.identity(tf.cond(asked, lambda: table.read_value(), lambda: other + 1), name="stranger")
            tf.identity(tf.cond(asked, lambda: other * 2, lambda: other + 1), name="computed")
            tf.train.export_meta_graph(f"{where}/{flow}-{kind}.meta")
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("once")
    done = forked.run(WRITE, made)
    assert done.returncode == 0, done.stderr[-3000:]
    return made


@pytest.mark.parametrize("kind", ["ref", "resource"])
@pytest.mark.parametrize("flow", ["v1", "v2"])
def test_conditional_that_asks_whether_a_variable_is_set_stands_for_that_one(
    room: Path, flow: str, kind: str
) -> None:
    meta = read_meta((room / f"{flow}-{kind}.meta").read_bytes(), name="m")
    graph = Graph(meta, merged(meta))
    kinds = {node.op for node in meta.graph_def.node}
    assert ("Merge" in kinds) is (flow == "v1")
    assert bool(kinds & {"If", "StatelessIf"}) is (flow == "v2")

    assert value_once_set(graph, Edge("once", 0)) == "table"
    assert value_once_set(graph, Edge("first", 0)) == "table"
    # Whether one variable is set says nothing of another's value, nor of what is computed
    assert value_once_set(graph, Edge("stranger", 0)) is None
    assert value_once_set(graph, Edge("computed", 0)) is None
