"""Is the right operation found in graphs as people write them, and does a group train them as one
process would?
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inspect import inspect
from orchestrator.graph.plan import GraphPlan, plan
from orchestrator.graph.worker_graph import WorkerGraph
from tests.graph.bare import train_original
from tests.graph.pair import RANKS, Pair
from tests.graph.traits import batch
from tests.graph.wild import HABITS, Made, make_habit

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]

STEPS, ROWS = 4, 4
"""Rows of each rank; an even number, since towers split them."""


@pytest.fixture(scope="module", params=sorted(HABITS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A graph of each habit."""
    return make_habit(request.param, tmp_path_factory.mktemp(request.param))


def planned(made: Made) -> GraphPlan:
    """The plan of a group of two that is told nothing of train ops."""
    return plan(_meta(made), RunConfig(source="x", workers=2, input="a:b"))


def _meta(made: Made) -> Any:
    return read_meta(Path(f"{made.prefix}.meta").read_bytes(), name="wild")


def _whole(made: Made, step: int) -> dict[str, Any]:
    return {**batch(step, ROWS * len(RANKS)), **made.feeds}


def _halves(made: Made, step: int) -> dict[int, dict[str, Any]]:
    whole = batch(step, ROWS * len(RANKS))
    return {
        rank: {
            **{name: value[rank * ROWS : (rank + 1) * ROWS] for name, value in whole.items()},
            **made.feeds,
        }
        for rank in RANKS
    }


def _trained(graph: WorkerGraph, made: Made) -> list[dict[str, np.ndarray]]:
    with Pair(graph, str(made.prefix)) as pair:
        tables = [
            pair.graph.get_operation_by_name(f"r{rank}/{name}")
            for rank in RANKS
            for name in graph.table_initializers
        ]
        pair.session.run(tables)
        for step in range(STEPS):
            pair.step(_halves(made, step), step)
        return [pair.variables(rank) for rank in RANKS]


def test_train_op_of_a_graph_from_the_wild_is_the_one_its_author_ran(made: Made) -> None:
    found = planned(made)
    if not made.ops:
        assert [problem.code for problem in found.errors] == ["ambiguous-train-op"]
        assert len(found.candidates) > 1
        return
    assert found.worker_graph is not None, found.problems
    assert [target.op for target in found.worker_graph.targets] == made.ops
    assert list(inspect(_meta(made), source="x", size_bytes=1).chosen_train_ops) == made.ops


def test_group_of_two_trains_a_graph_from_the_wild_as_one_process_would(made: Made) -> None:
    graph = planned(made).worker_graph
    if graph is None:
        pytest.skip("a graph that asks which operation to run")
    first, second = _trained(graph, made)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
    alone = train_original(
        graph.original_meta, str(made.prefix), made.ops, STEPS, lambda step: _whole(made, step)
    )
    compared = [
        name for name in alone if not any(fnmatchcase(name, pattern) for pattern in made.apart)
    ]
    assert compared or "*" in made.apart
    for name in compared:
        np.testing.assert_allclose(first[name], alone[name], rtol=3e-5, atol=1e-6, err_msg=name)
