"""Does a group make of each pattern of the table what the table says?

A third of the table is tried on each day, in turn; ``make soak`` tries all of it.
"""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
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
from tests.graph.silent import PATTERNS

pytestmark = pytest.mark.tf

STEPS = 3


THIRDS = 3


def of_today() -> list[str]:
    """The patterns whose turn it is."""
    return sorted(PATTERNS)[date.today().toordinal() % THIRDS :: THIRDS]


def planned(made: Made, workers: int = 2) -> GraphPlan:
    """The plan of a group, or of one worker."""
    meta = read_meta(Path(f"{made.prefix}.meta").read_bytes(), name="pattern")
    config = RunConfig(source="x", workers=workers, input="a:b", train_op=[made.op])
    return plan(meta, config)


def trained(graph: WorkerGraph, made: Made) -> list[dict[str, np.ndarray]]:
    """Each rank's variables after some steps."""
    with Pair(graph, str(made.prefix)) as pair:
        for step in range(STEPS):
            pair.step(dict(enumerate(made.parts(step))), step)
        return [pair.variables(rank) for rank in RANKS]


def different(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> set[str]:
    """Names of the variables that aren't nearly the same."""
    return {
        name for name in second if not np.allclose(first[name], second[name], rtol=3e-5, atol=1e-6)
    }


@pytest.mark.parametrize("name", of_today())
def test_group_makes_of_a_pattern_what_the_table_says(name: str, tmp_path: Path) -> None:
    hold_to_the_table(make(PATTERNS[name], tmp_path))


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_group_makes_of_every_pattern_what_the_table_says(name: str, tmp_path: Path) -> None:
    hold_to_the_table(make(PATTERNS[name], tmp_path))


def hold_to_the_table(made: Made) -> None:
    """Plan and train it for a group, and beside it in one process."""
    found = planned(made)
    pattern = made.pattern
    alone = planned(made, workers=1)
    assert alone.worker_graph is not None, alone.problems
    if pattern.outcome == "refused":
        assert pattern.saying in found.group_refused
        assert [problem.code for problem in found.errors] == ["group-refused"]
        assert alone.group_refused == found.group_refused
        return
    graph = found.worker_graph
    assert graph is not None, found.problems
    first, second = trained(graph, made)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
    joint = train_original(graph.original_meta, str(made.prefix), [made.op], STEPS, made.joint)
    unlike = different(first, joint)
    assert all(any(fnmatchcase(name, one) for one in pattern.apart) for name in unlike), unlike
    if pattern.outcome == "differs":
        assert unlike
        said = [problem.message for problem in found.problems if problem.severity == "warning"]
        assert any(pattern.saying in message for message in said), said
