"""Does a run that would compute something else in a group stay where it is, and go on in each of
the ways that it's told?
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.runs.status import status
from launch.text.status_text import status_text
from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import proving
from orchestrator.driver.main import resume
from orchestrator.driver.result import RunResult
from orchestrator.errors import GraphRefused
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.run_record import RunRecord, read_run_record
from tests import forked
from tests.chaos.runs import Watcher
from tests.end_to_end.commands import tfresume
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.turns(32, "whole runs")]
GRAPHS = "tests.driver.proof_graphs"


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of all graphs."""
    directory = tmp_path_factory.mktemp("proofs")
    done = forked.run(GRAPHS, directory)
    assert not done.returncode, done.stderr[-3000:]
    return directory


@pytest.fixture
def cluster(ray_address: str) -> Iterator[str]:
    """This process, connected to the shared cluster."""
    import ray

    ray.init(address=ray_address, log_to_driver=False, ignore_reinit_error=True)
    yield ray_address
    ray.shutdown()


def configured(source: Path, output: Path, **settings: Any) -> RunConfig:
    values = {
        "source": str(source),
        "output": str(output),
        "workers": 2,
        "steps": 2,
        "input": f"{GRAPHS}:xy",
        "tensorboard": False,
    }
    return parse_config(values | settings)


def recorded(output: Path) -> RunRecord:
    found = read_run_record(open_location(str(output)))
    assert found is not None
    return found


def ended(config: RunConfig) -> tuple[RunResult, Watcher]:
    watcher = Watcher()
    result = resume(config, observer=watcher)
    assert result.status == "done", result
    return result, watcher


def test_run_of_a_summed_loss_whose_mean_is_taken_is_refused_and_nothing_is_written(
    graphs: Path, tmp_path: Path, cluster: str
) -> None:
    """By a task of the cluster's, since the run's workers would be there."""
    config = configured(graphs / "total", tmp_path / "out", gradient_scale="mean", address=cluster)
    with pytest.raises(GraphRefused, match="the loss sums over rows") as refused:
        resume(config)
    assert "--gradient-scale sum" in refused.value.remedy
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({"gradient_scale": "sum"}, "equal"),
        ({"workers": 1, "batches_per_step": 1}, None),
        ({"prove": False}, None),
        ({"accept_differences": True}, "differs"),
    ],
    ids=["sum", "one process", "no proof", "accepted"],
)
def test_refused_run_goes_on_in_each_of_the_ways_that_it_is_told(
    settings: dict[str, Any], verdict: str | None, graphs: Path, tmp_path: Path, cluster: str
) -> None:
    output = tmp_path / "out"
    given = {"gradient_scale": "mean", "address": cluster} | settings
    result, watcher = ended(configured(graphs / "total", output, **given))
    proof = recorded(output).proof
    assert (None if proof is None else proof.verdict) == verdict
    (begun,) = watcher.named("attempt")
    assert begun["proof"] == (None if proof is None else proof.model_dump())
    accepted = [text for text in result.warnings if text.startswith("accepted: ")]
    assert bool(accepted) == (verdict == "differs")


def test_proof_is_recorded_shown_by_status_and_not_asked_for_again(
    graphs: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    ended(configured(graphs / "mean", output, address=cluster))
    proof = recorded(output).proof
    assert proof is not None
    assert proof.verdict == "equal", proof

    def asked(*_: Any) -> Any:
        raise AssertionError("it was asked for again")

    monkeypatch.setattr(proving, "Proving", asked)
    _, watcher = ended(
        configured(graphs / "mean", output, steps=None, until_step=4, address=cluster)
    )
    assert watcher.named("attempt")[-1]["proof"] == proof.model_dump()
    found = status(str(output), patience_s=0.0)
    assert found.proof == proof.model_dump()
    assert proof.told[:40] in _shown(found)
    with pytest.raises(AssertionError, match="asked for again"):
        resume(
            configured(
                graphs / "mean",
                output,
                steps=None,
                until_step=6,
                gradient_scale="sum",
                address=cluster,
            )
        )


def _shown(found: Any) -> str:
    from rich.console import Console

    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=400, file=nowhere)
        console.print(status_text(found))
        return console.export_text()


def test_run_whose_graph_makes_its_own_batches_says_that_nothing_was_proved_and_goes_on(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, cluster: str
) -> None:
    output = tmp_path / "out"
    source = tf1_checkpoint("queue")
    ended(configured(source, output, input=None, address=cluster))
    proof = recorded(output).proof
    assert proof is not None
    assert proof.verdict == "unproved"
    assert "own pipeline" in proof.told


def test_run_whose_proof_dies_says_so_and_goes_on(
    graphs: Path, tmp_path: Path, cluster: str
) -> None:
    """The input kills the process that is alone with all batches, as one that needs too much memory
    would die.
    """
    (tmp_path / "deadly.py").write_text(
        "import os, signal\nfrom tests.driver import proof_graphs\n"
        "def batches(ctx):\n"
        "    if ctx.world_size == 1:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return proof_graphs.xy(ctx)\n"
    )
    output, function = tmp_path / "out", f"{tmp_path / 'deadly.py'}:batches"
    ended(configured(graphs / "mean", output, input=function, address=cluster))
    proof = recorded(output).proof
    assert proof is not None
    assert proof.verdict == "unproved"
    assert "was killed, most likely for its memory" in proof.told


@pytest.mark.parametrize(
    ("scale", "code", "verdict"), [("mean", 2, "differs"), ("sum", 0, "equal")]
)
def test_check_proves_where_it_is_asked_to(
    scale: str, code: int, verdict: str, graphs: Path
) -> None:
    words = ["--workers", "2", "--input", f"{GRAPHS}:xy", "--gradient-scale", scale]
    found = tfresume("check", graphs / "total", *words, "--prove", "--json")
    assert found.code == code, found.stderr
    assert found.json["proof"]["verdict"] == verdict
    assert json.dumps(found.json["proof"])
    said = tfresume("check", graphs / "total", *words)
    assert said.code == 0
    assert "proved" not in said.stdout
