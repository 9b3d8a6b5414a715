"""Does a graph that would wait for somebody who is gone train all the same, or is the reason told?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.check import check
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import plan
from orchestrator.graph.worker_graph import WorkerGraph
from tests.graph import waiting
from tests.graph.bare import train_original, train_rewritten
from tests.graph.pair import RANKS, Pair
from tests.graph.patterns import Made

pytestmark = pytest.mark.tf

STEPS = 3
NEXT = {"x:0": "IteratorGetNext:0", "y:0": "IteratorGetNext:1"}


def planned(made: Made, **config: Any) -> Any:
    """The plan of a group of two."""
    meta = read_meta(Path(f"{made.prefix}.meta").read_bytes(), name="waiting")
    return plan(meta, RunConfig(**{"source": "x", "workers": 2, "input": "a:b", **config}))


def group_of_two(graph: WorkerGraph, made: Made) -> np.ndarray:
    """``w`` after some steps of two ranks, which are alike; batches under the ports' own names."""
    ports = {port.name for port in graph.inputs}
    with Pair(graph, str(made.prefix)) as pair:
        for step in range(STEPS):
            parts = [
                {name if name in ports else NEXT[name]: value for name, value in part.items()}
                for part in made.parts(step)
            ]
            pair.step(dict(enumerate(parts)), step)
        first, second = (pair.variables(rank)["w"] for rank in RANKS)
    np.testing.assert_array_equal(first, second)
    return first


def primed(made: Made) -> np.ndarray:
    """``w`` after bare TensorFlow took the same steps, its staging area filled once before."""
    import tensorflow

    tf = tensorflow.compat.v1
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.train.import_meta_graph(f"{made.prefix}.meta").restore(session, str(made.prefix))
        put = graph.get_operation_by_name("put")
        session.run(put, made.joint(0))
        for step in range(STEPS):
            session.run(made.ops[0], made.joint(step + 1))
            if made.ops[0] != "step":  # which puts the next batch itself
                session.run(put, made.joint(step + 1))
        value: np.ndarray = session.run("w:0")
    return value


@pytest.mark.parametrize("build", [waiting.staged_batches, waiting.staged_by_somebody_else])
def test_step_trains_on_its_own_batch_in_place_of_the_staged_one(
    build: Callable[[Any], Any], tmp_path: Path
) -> None:
    made = waiting.made(build, tmp_path)
    found = planned(made)
    assert [problem.code for problem in found.problems] == ["staging-bypassed"]
    graph = found.worker_graph
    expected = primed(made)
    np.testing.assert_allclose(group_of_two(graph, made), expected, rtol=3e-5)
    alone = planned(made, workers=1).worker_graph
    one = train_rewritten(alone, str(made.prefix), STEPS, made.joint)["w"]
    np.testing.assert_allclose(one, expected, rtol=1e-6)


def test_batches_that_pass_two_staging_areas_are_fed_where_the_first_one_takes_them(
    tmp_path: Path,
) -> None:
    made = waiting.made(waiting.staged_twice, tmp_path)
    graph = planned(made).worker_graph
    assert sorted(port.name for port in graph.inputs) == ["x:0", "y:0"]
    plain = waiting.made(waiting.staged_batches, tmp_path / "once")
    np.testing.assert_array_equal(
        group_of_two(graph, made), group_of_two(planned(plain).worker_graph, plain)
    )


def test_gradients_that_are_late_on_purpose_are_refused(tmp_path: Path) -> None:
    made = waiting.made(waiting.staged_gradients, tmp_path)
    meta = read_meta(Path(f"{made.prefix}.meta").read_bytes(), name="waiting")
    report = check(meta, RunConfig(source="x", workers=1, input="a:b"))
    assert report.exit_code == 2
    (problem,) = [one for one in report.problems if one.code == "staging-area"]
    assert "put puts there what the step before computed from w" in problem.message


def test_batches_of_an_iterator_that_a_handle_chose_are_named_and_can_be_fed(
    tmp_path: Path,
) -> None:
    made = waiting.made(waiting.chosen_by_a_handle, tmp_path)
    (problem,) = planned(made, input=None).errors
    assert "feeding a handle" in problem.message
    assert "--array" in problem.remedy
    assert all(name in problem.remedy for name in NEXT.values())
    files = dict.fromkeys(NEXT.values(), "rows.npy")
    assert planned(made, input=None, array=files, batch_size=4).worker_graph is not None
    graph = planned(made).worker_graph
    joint = train_original(
        graph.original_meta,
        str(made.prefix),
        list(made.ops),
        STEPS,
        lambda step: {NEXT[name]: value for name, value in made.joint(step).items()},
    )
    np.testing.assert_allclose(group_of_two(graph, made), joint["w"], rtol=3e-5)


def test_mean_of_gradients_over_a_cluster_becomes_the_groups(tmp_path: Path) -> None:
    made = waiting.made(waiting.mean_over_a_cluster, tmp_path)
    graph = planned(made).worker_graph
    assert any("collective means of gradients" in repair for repair in graph.repairs)
    joint = train_original(graph.original_meta, str(made.prefix), list(made.ops), STEPS, made.joint)
    np.testing.assert_allclose(group_of_two(graph, made), joint["w"], rtol=3e-5)


@pytest.mark.parametrize("build", [waiting.sum_over_a_cluster, waiting.statistics_over_a_cluster])
@pytest.mark.parametrize("workers", [1, 2])
def test_other_collectives_of_a_cluster_are_named_before_anybody_waits_in_them(
    build: Callable[[Any], Any], workers: int, tmp_path: Path
) -> None:
    made = waiting.made(build, tmp_path)
    meta = read_meta(Path(f"{made.prefix}.meta").read_bytes(), name="waiting")
    report = check(meta, RunConfig(source="x", workers=workers, input="a:b"))
    assert report.exit_code == 2
    (problem,) = [one for one in report.problems if one.code == "in-graph-collective"]
    assert "CollectiveReduce" in problem.message
