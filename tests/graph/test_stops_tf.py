"""Does a group train each pattern of the second table as one process does, or say why it can't?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import GraphPlan, plan
from orchestrator.graph.worker_graph import WorkerGraph
from tests.graph.bare import train_original
from tests.graph.pair import RANKS, Pair
from tests.graph.patterns import Made, make
from tests.graph.stops import STOPS, UNNAMED

pytestmark = pytest.mark.tf

STEPS = 3


@pytest.mark.turns(6)
@pytest.mark.parametrize("name", sorted(STOPS))
def test_group_makes_of_a_pattern_what_the_second_table_says(name: str, tmp_path: Path) -> None:
    hold(make(STOPS[name], tmp_path))


@pytest.mark.parametrize("name", UNNAMED)
def test_assignment_that_trains_is_found_where_nobody_names_it(name: str, tmp_path: Path) -> None:
    made = make(STOPS[name], tmp_path)
    found = planned(made, named=False)
    assert found.worker_graph is not None, found.problems
    assert found.worker_graph.targets[0].updates == ("w",)


def planned(made: Made, *, workers: int = 2, named: bool = True) -> GraphPlan:
    """The plan of a group, or of one worker; ``named``: with ``--train-op``."""
    meta = read_meta(Path(f"{made.prefix}.meta").read_bytes(), name="pattern")
    ops = list(made.ops) if named else []
    return plan(meta, RunConfig(source="x", workers=workers, input="a:b", train_op=ops))


def hold(made: Made) -> None:
    """Plan and train a pattern for a group, and beside it in one process."""
    found, alone = planned(made), planned(made, workers=1)
    assert alone.worker_graph is not None, alone.problems
    if made.pattern.outcome == "refused":
        assert made.pattern.saying in found.group_refused
        assert [problem.code for problem in found.errors] == ["group-refused"]
        assert alone.group_refused == found.group_refused
        return
    graph = found.worker_graph
    assert graph is not None, found.problems
    first, second = trained(graph, made)
    joint = train_original(graph.original_meta, str(made.prefix), made.ops, STEPS, made.joint)
    for name, value in joint.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=f"ranks differ in {name}")
        np.testing.assert_allclose(first[name], value, rtol=3e-5, atol=1e-6, err_msg=name)


def trained(graph: WorkerGraph, made: Made) -> list[dict[str, np.ndarray]]:
    """Each rank's variables after some steps."""
    with Pair(graph, str(made.prefix)) as pair:
        for step in range(STEPS):
            pair.step(dict(enumerate(made.parts(step))), step)
        return [pair.variables(rank) for rank in RANKS]
