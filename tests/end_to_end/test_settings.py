"""Do settings that change how long a run waits, counts, saves and shows do what they say, in a real
run?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver.main import resume
from orchestrator.errors import PlacementError
from tests.chaos.runs import Watcher
from tests.end_to_end import inputs
from tests.end_to_end.commands import assert_close, plain_variables
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.turns(32, "whole runs")]

UNTIL_TWO_SAVES = """
import pathlib, time
from tests.end_to_end import inputs

def batches(ctx):
    deadline = time.monotonic() + 120
    for batch in inputs.mlp(ctx):
        if len(list(pathlib.Path({output!r}).glob("a0001-*/*.manifest.json"))) >= 2 or time.monotonic() > deadline:
            return
        yield batch
"""


@pytest.fixture
def cluster(ray_address: str) -> Iterator[None]:
    """This process, connected to the shared cluster."""
    import ray

    ray.init(address=ray_address, log_to_driver=False, ignore_reinit_error=True)
    yield
    ray.shutdown()


def config_for(source: Path, output: Path, **settings: Any) -> RunConfig:
    values = {
        "source": str(source),
        "output": str(output),
        "input": "tests.end_to_end.inputs:mlp",
        "tensorboard": False,
    }
    return parse_config(values | settings)


class Shown(Watcher):
    """Follows a run, and keeps the watched values that it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Mapping[str, float]] = []

    def progress(self, progress: Any) -> None:
        super().progress(progress)
        self.values.append(progress.values)


def test_graph_without_a_step_counts_on_from_its_checkpoints_name_and_shows_what_is_watched(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, cluster: None
) -> None:
    source, shown = tf1_checkpoint("mlp", optimizer="sgd", step=False), Shown()
    first = resume(config_for(source, tmp_path / "out", until_step=5))
    second = resume(
        config_for(source, tmp_path / "out", until_step=8, watch=["hidden/bias:0"]), observer=shown
    )
    assert (first.start_step, first.final_step) == (3, 5)
    assert (second.start_step, second.final_step) == (5, 8)
    assert second.checkpoint is not None
    assert second.checkpoint.endswith("-8")
    theirs = plain_variables(source, tmp_path, [inputs.batch("mlp", number) for number in range(5)])
    assert_close(plain_variables(second.checkpoint, tmp_path), theirs)
    watched = shown.values[-1]["hidden/bias:0"]
    assert watched == pytest.approx(float(np.mean(theirs["hidden/bias"])), abs=1e-3)
    assert watched != 0


def test_save_secs_saves_by_the_clock_and_not_at_the_end_alone(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, cluster: None
) -> None:
    output = tmp_path / "out"
    (tmp_path / "feeds.py").write_text(UNTIL_TWO_SAVES.format(output=str(output)))
    watcher = Watcher()
    settings = {"until_step": 10**9, "save_secs": 0.3, "input": f"{tmp_path / 'feeds.py'}:batches"}
    result = resume(
        config_for(tf1_checkpoint("mlp", optimizer="sgd"), output, **settings), observer=watcher
    )
    assert result.status == "end of data"
    steps = [event["step"] for event in watcher.named("save_committed")]
    assert len(steps) >= 2
    assert steps == sorted(set(steps))


def test_more_workers_than_there_is_room_for_are_refused_or_with_wait_started_when_there_is(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, cluster: None
) -> None:
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    source = tf1_checkpoint("mlp", optimizer="sgd")
    taken = placement_group([{"CPU": ray.available_resources()["CPU"]}])
    assert taken.wait(60)
    with pytest.raises(PlacementError, match="room for 0 of 1") as refused:
        resume(config_for(source, tmp_path / "out", steps=2))
    assert "--wait" in refused.value.remedy
    assert not (tmp_path / "out").exists()

    events: list[str] = []

    class GivesRoom:
        def event(self, event: Mapping[str, Any]) -> None:
            if event["event"] == "worker_start":
                events.append("asked for a place")
                remove_placement_group(taken)
            elif event["event"] == "worker_warm":
                events.append("has it")

        def progress(self, progress: Any) -> None:
            """Only the order of events counts."""

    result = resume(
        config_for(source, tmp_path / "out", steps=2, wait=True, wait_s=120), observer=GivesRoom()
    )
    assert result.final_step == 5
    assert events == ["asked for a place", "has it"]
