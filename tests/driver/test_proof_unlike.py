"""Does the proof find what no rule on a loss sees, and does its message say what it looks like?"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver.proof import Proof
from orchestrator.errors import GraphRefused
from tests import forked
from tests.driver.test_proof import tried

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]

GRAPHS = "tests.driver.unlike_graphs"
UNMADE = "no weighted sum of the batches' gradients is one process's"


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("unlike")
    done = forked.run(GRAPHS, directory)
    assert not done.returncode, done.stderr[-3000:]
    return directory


def proof(graphs: Path, scratch: Path, name: str, function: str, **settings: str) -> Proof:
    return tried(configured(graphs, scratch, name, function, **settings), scratch)


def configured(graphs: Path, scratch: Path, name: str, function: str, **settings: str) -> RunConfig:
    return parse_config(
        {
            "source": str(graphs / name),
            "output": str(scratch / "out"),
            "steps": 1,
            "workers": 3,
            "input": f"{GRAPHS}:{function}",
            **settings,
        }
    )


def test_gradients_that_begin_with_a_sum_of_the_authors_own_are_told_by_their_factor(
    graphs: Path, tmp_path: Path
) -> None:
    found = proof(graphs, tmp_path, "given_sums", "xy", gradient_scale="mean")
    assert found.verdict == "differs", found
    assert "one process's are 3 times the group's mean: the loss sums over rows" in found.told
    assert "of w (by" in found.told
    assert found.remedies[0].startswith("--gradient-scale sum")
    summed = proof(graphs, tmp_path, "given_sums", "xy", gradient_scale="sum")
    assert summed.verdict == "equal", summed


@pytest.mark.parametrize(
    ("name", "function"),
    [("given_means", "xy"), ("rated", "xy"), ("rated", "same_rate"), ("aged", "same_epoch")],
)
def test_what_a_group_trains_exactly_is_equal(
    graphs: Path, tmp_path: Path, name: str, function: str
) -> None:
    found = proof(graphs, tmp_path, name, function)
    assert found.verdict == "equal", found


@pytest.mark.parametrize("name", ["microbatches", "ranked"])
def test_rows_that_count_together_are_told_as_no_sum_of_the_batches(
    graphs: Path, tmp_path: Path, name: str
) -> None:
    found = proof(graphs, tmp_path, name, "xy")
    assert found.verdict == "differs", found
    assert UNMADE in found.told
    assert not any("--gradient-scale" in remedy for remedy in found.remedies)
    assert any(remedy.startswith("--workers 1") for remedy in found.remedies)


def test_rate_by_a_number_that_differs_by_batch_is_said_to_be_proved_with_one_batch_alone(
    graphs: Path, tmp_path: Path
) -> None:
    """Workers get the mean of the batches' rates, all the same; no one process has such a step."""
    found = proof(graphs, tmp_path, "aged", "epochs")
    assert found.verdict == "same batch", found
    assert "the batches of 3 workers for epoch:0 can't be joined" in found.told


@pytest.mark.parametrize(("name", "function", "tensor"), [("rated", "inner_rate", "rate:0")])
def test_what_each_worker_is_fed_differently_and_applies_is_told_before_they_drift_apart(
    graphs: Path, tmp_path: Path, name: str, function: str, tensor: str
) -> None:
    found = proof(graphs, tmp_path, name, function)
    assert found.verdict == "differs", found
    assert (
        f"workers would drift apart: {tensor} is fed differently from batch to batch" in found.told
    )
    assert "w follows from what each worker is fed itself" in found.told
    with pytest.raises(GraphRefused) as refused:
        found.refuse("source")
    assert f"--feed {tensor}=VALUE" in refused.value.remedy
