"""Does a run whose workers are killed end with the very bytes of one that nothing happened to?"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chaos.conftest import assert_same_bytes
from tests.chaos.runs import Watcher, config_for, kill_on, kill_rank, play, variables_of

pytestmark = [pytest.mark.ray, pytest.mark.tf, pytest.mark.chaos]


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_worker_with_a_standby_ends_with_the_bytes_of_an_undisturbed_run(
    rank: int, cluster: str, tf1_checkpoint: Any, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    result, watcher = play(config_for(tf1_checkpoint("mlp"), tmp_path / "out"), kill_rank(rank, at_step=30, need_standby=True))
    assert watcher.fired, "nothing was killed"
    assert result.status == "done", result
    assert [(item["kind"], item["rank"], item["steps_redone"]) for item in result.incidents] == [("died", rank, 0)]
    survivor = next(event for event in watcher.named("generation") if event["generation"] == 1)["workers"][1 - rank]
    assert survivor in watcher.ranks, "the survivor was replaced"
    assert_same_bytes(undisturbed, variables_of(Path(str(result.checkpoint))))


def test_killed_donor_while_the_group_forms_anew_goes_on_from_the_next_state(
    cluster: str, tf1_checkpoint: Any, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    """Rank 1 dies; while the standby joins, it dies too; the last survivor's state goes on."""

    def kill_newcomer(watcher: Watcher, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "generation" and event["generation"] == 2:
            newcomer = next(worker for worker in event["workers"] if worker != event["donor"])
            os.kill(watcher.pids[newcomer], signal.SIGKILL)
            watcher.fired.append("newcomer")

    config = config_for(tf1_checkpoint("mlp"), tmp_path / "out", workers={"count": 2, "standby": 2})
    result, watcher = play(config, kill_rank(1, at_step=30, need_standby=True), kill_newcomer)
    assert len(watcher.fired) == 2, watcher.fired
    assert result.status == "done", result
    assert sum(item["steps_redone"] for item in result.incidents) == 0
    assert not watcher.named("finding_checkpoint")
    assert_same_bytes(undisturbed, variables_of(Path(str(result.checkpoint))))


def test_all_members_killed_at_once_go_on_from_the_newest_checkpoint(
    cluster: str, tf1_checkpoint: Any, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    config = config_for(tf1_checkpoint("mlp"), tmp_path / "out", workers={"count": 2, "standby": 2}, save_steps=25)
    faults = [kill_rank(0, at_step=60, need_standby=True), kill_rank(1, at_step=60, need_standby=True)]
    result, watcher = play(config, *faults)
    assert len(watcher.fired) == 2
    assert result.status == "done", result
    assert watcher.named("finding_checkpoint")
    redone = sum(item["steps_redone"] for item in result.incidents)
    assert 0 < redone <= 120, "a run that goes back to a checkpoint repeats steps, and says so"
    assert_same_bytes(undisturbed, variables_of(Path(str(result.checkpoint))))


def test_killed_writer_in_the_middle_of_a_save_leaves_no_half_checkpoint(
    cluster: str, tf1_checkpoint: Any, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    config = config_for(tf1_checkpoint("mlp"), tmp_path / "out", save_steps=60)
    choose = kill_on("save_agreed", lambda watcher, event: event["writer"], delay_s=0.0)
    result, watcher = play(config, choose)
    assert watcher.fired
    assert result.status == "done", result
    assert watcher.named("save_lost") or watcher.named("save_cancelled"), "the kill didn't land in a save"
    for manifest in (tmp_path / "out").glob("a*/*.manifest.json"):
        assert manifest.with_name(manifest.name.replace(".manifest.json", ".index")).exists()
    assert_same_bytes(undisturbed, variables_of(Path(str(result.checkpoint))))


def test_killed_worker_without_a_standby_shrinks_at_once_and_grows_again(
    cluster: str, tf1_checkpoint: Any, tmp_path: Path
) -> None:
    config = config_for(tf1_checkpoint("mlp"), tmp_path / "out", workers={"count": 2, "min": 1}, until_step=700)
    result, watcher = play(config, kill_rank(1, at_step=30))
    assert watcher.fired
    assert result.status == "done", result
    assert [event["world_size"] for event in watcher.named("generation")] == [2, 1, 2]
    assert result.incidents[0]["world_size"] == 1
    assert result.incidents[0]["recovered_s"] <= 3.0
    positions = [(event["step"], event["position"]) for event in watcher.named("generation")]
    (_, _), (second, at_second), (third, at_third) = positions
    assert at_second == 2 * (second - 3), "a batch was skipped or served twice"
    assert at_third == at_second + (third - second), "a batch was skipped or served twice"


def test_stopped_worker_is_found_within_the_hang_bound_and_replaced(
    cluster: str, tf1_checkpoint: Any, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    fault = kill_rank(1, at_step=30, number=signal.SIGSTOP, need_standby=True)
    result, watcher = play(config_for(tf1_checkpoint("mlp"), tmp_path / "out", hang_floor_s=3.0), fault)
    assert watcher.fired
    assert result.status == "done", result
    assert [item["kind"] for item in result.incidents] == ["hung"]
    assert result.incidents[0]["steps_redone"] == 0
    assert_same_bytes(undisturbed, variables_of(Path(str(result.checkpoint))))


def test_terminated_worker_hands_over_to_a_standby_without_an_incident(
    cluster: str, tf1_checkpoint: Any, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    fault = kill_rank(1, at_step=30, number=signal.SIGTERM, need_standby=True)
    result, watcher = play(config_for(tf1_checkpoint("mlp"), tmp_path / "out"), fault)
    assert watcher.fired
    assert result.status == "done", result
    assert watcher.named("worker_notice")
    assert not result.incidents, "a planned loss costs nothing"
    assert_same_bytes(undisturbed, variables_of(Path(str(result.checkpoint))))
