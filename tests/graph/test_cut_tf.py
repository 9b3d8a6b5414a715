"""Is a cut graph, trained by two ranks, what one process with both batches would have trained? And
does a failed step change nothing?
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import GraphPlan, plan
from tests.graph.bare import train_original
from tests.graph.pair import Pair
from tests.graph.traits import TRAITS, batch, make_trait

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]

Made = tuple[Path, list[str]]
STEPS = 4
NOT_AS_ONE = {"replicas", "parallel_average", "copied_weights"}
"""Plain TensorFlow alone waits for replicas in the first, and leaves open in the others whether a
read or a write comes first.
"""


@pytest.fixture(scope="module", params=sorted(TRAITS))
def trait(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A graph of each trait: prefix and operations."""
    return make_trait(request.param, tmp_path_factory.mktemp(request.param))


def planned(made: Made) -> GraphPlan:
    """The plan of a group of two."""
    prefix, ops = made
    config = RunConfig(source=str(prefix), workers=2, input="a:b", train_op=ops)
    return plan(read_meta(Path(f"{prefix}.meta").read_bytes(), name=prefix.name), config)


def both(step: int) -> dict[int, dict[str, np.ndarray]]:
    """The two halves of a step's batch, by rank."""
    whole = batch(step)
    return {
        rank: {name: value[rank * 3 : rank * 3 + 3] for name, value in whole.items()}
        for rank in (0, 1)
    }


def two_tower_batches(step: int) -> dict[int, dict[str, np.ndarray]]:
    """Halves of four rows each, since towers split them again."""
    whole = batch(step, 8)
    return {
        rank: {name: value[rank * 4 : rank * 4 + 4] for name, value in whole.items()}
        for rank in (0, 1)
    }


def test_group_of_two_trains_as_one_process_with_both_batches(
    trait: Made, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["trait"]
    found = planned(trait).worker_graph
    assert found is not None, planned(trait).problems
    batches = two_tower_batches if name == "towers" else both
    with Pair(found, str(trait[0])) as pair:
        for step in range(STEPS):
            pair.step(batches(step), step)
        first, second = pair.variables(0), pair.variables(1)
    for variable, value in first.items():
        np.testing.assert_array_equal(
            value, second[variable], err_msg=f"ranks differ in {variable}"
        )
    if name in NOT_AS_ONE:
        return
    rows = 8 if name == "towers" else 6
    alone = train_original(
        found.original_meta, str(trait[0]), trait[1], STEPS, lambda step: batch(step, rows)
    )
    for variable, value in alone.items():
        np.testing.assert_allclose(first[variable], value, rtol=2e-5, atol=1e-6, err_msg=variable)


def test_ranks_without_exchange_drift_apart(trait: Made) -> None:
    found = planned(trait).worker_graph
    assert found is not None
    with Pair(found, str(trait[0]), exchange=False) as pair:
        pair.step(both(0) if "towers" not in trait[0].parent.name else two_tower_batches(0))
        first, second = pair.variables(0), pair.variables(1)
    assert any(not np.array_equal(value, second[variable]) for variable, value in first.items())


def test_failed_exchange_changes_nothing(trait: Made) -> None:
    import tensorflow

    found = planned(trait).worker_graph
    assert found is not None
    batches = two_tower_batches if "towers" in trait[0].parent.name else both
    with Pair(found, str(trait[0])) as pair:
        pair.step(batches(0), 0)
        before = [pair.variables(rank) for rank in (0, 1)]
        with pytest.raises(tensorflow.errors.InvalidArgumentError, match="the exchange failed"):
            pair.step(batches(1), 1, fail=True)
        for rank in (0, 1):
            for variable, value in pair.variables(rank).items():
                np.testing.assert_array_equal(
                    value, before[rank][variable], err_msg=f"{variable} of rank {rank}"
                )
        pair.step(batches(1), 1)
        assert any(
            not np.array_equal(value, before[0][variable])
            for variable, value in pair.variables(0).items()
        )
