"""Which pipelines run is decided with the rest of the plan, and what can't be promised is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import GraphPlan, plan
from tests.graphs.library import CheckpointLibrary

pytestmark = pytest.mark.tf


def planned(prefix: Path, **config: Any) -> GraphPlan:
    meta = read_meta(Path(f"{prefix}.meta").read_bytes(), name=str(prefix))
    return plan(meta, RunConfig(source=str(prefix), **config))


def codes(result: GraphPlan) -> set[str]:
    return {problem.code for problem in result.problems}


def test_plan_of_a_live_one_shot_iterator_shares_it_out_instead_of_initialising_it(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    graph = planned(tf1_checkpoint("csv_lines"), workers=2).worker_graph
    assert graph is not None
    assert [(pipeline.name, pipeline.shards) for pipeline in graph.pipelines] == [
        ("OneShotIterator", 2)
    ]
    assert graph.pipeline_initializers == ()
    assert [port.pull for port in graph.inputs] == ["IteratorGetNext:0", "IteratorGetNext:1"]


def test_plan_with_an_input_function_leaves_the_pipeline_alone(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    graph = planned(
        tf1_checkpoint("csv_lines"), workers=2, input="some.module:batches"
    ).worker_graph
    assert graph is not None
    assert graph.pipelines == ()
    assert [port.pull for port in graph.inputs] == [None, None]


def test_plan_of_a_shuffling_queue_says_that_it_holds_rows_back(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    assert "pipeline-rows-held-back" in codes(planned(tf1_checkpoint("reader_queue", many=True)))
    assert "pipeline-rows-held-back" not in codes(planned(tf1_checkpoint("reader_queue")))


def test_plan_of_a_py_func_in_the_step_refuses_without_its_function(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    prefix = tf1_checkpoint("py_step")
    feeds = {"x:0": "[1, 2, 3, 4, 5, 6]", "y:0": "1"}
    assert codes(planned(prefix, feed=feeds)) == {"python-lost"}
    assert codes(planned(prefix, feed=feeds, py_func={"pyfunc_0": "some.module:double"})) == set()


def test_plan_of_a_py_func_that_is_replaced_needs_no_function(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    result = planned(
        tf1_checkpoint("py_step"), input_map={"PyFunc:0": "features"}, input="some.module:batches"
    )
    assert "python-lost" not in codes(result)
    assert result.worker_graph is not None
    assert "features" in {port.name for port in result.worker_graph.inputs}


def test_plan_of_a_dead_pipeline_gives_one_problem_for_all_its_outputs(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    (problem,) = planned(tf1_checkpoint("fed_queue")).errors
    assert problem.code == "pipeline-fed-by-process"
    assert "take:0 (float32, shape [4, 6]), take:1 (int64, shape [4])" in problem.remedy
