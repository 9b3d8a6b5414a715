"""Does a run whose workers are killed end with the very bytes of one that nothing happened to?"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.driver import startup
from tests.chaos.conftest import assert_same_bytes
from tests.chaos.runs import INPUTS, Watcher, config_for, kill_rank, play, variables_of

pytestmark = [pytest.mark.ray, pytest.mark.tf, pytest.mark.chaos, pytest.mark.turns(8, "losses")]


def test_all_members_killed_at_once_go_on_from_the_newest_checkpoint(
    cluster: str, tf1_checkpoint: Any, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    config = config_for(
        tf1_checkpoint("mlp"), tmp_path / "out", workers={"count": 2, "standby": 2}, save_steps=25
    )
    faults = [
        kill_rank(0, at_step=60, need_standby=True),
        kill_rank(1, at_step=60, need_standby=True),
    ]
    result, watcher = play(config, *faults)
    assert len(watcher.fired) == 2
    assert result.status == "done", result
    assert watcher.named("finding_checkpoint")
    redone = sum(item["steps_redone"] for item in result.incidents)
    assert 0 < redone <= 120, "a run that goes back to a checkpoint repeats steps, and says so"
    assert_same_bytes(undisturbed, variables_of(Path(str(result.checkpoint))))


def test_stopped_worker_is_replaced_and_a_terminated_one_hands_over(
    cluster: str, tf1_checkpoint: Any, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    """SIGSTOP is found within the hang bound; SIGTERM, later in the same run, is a planned loss and
    no incident.
    """
    stop = kill_rank(1, at_step=20, number=signal.SIGSTOP, need_standby=True)
    terminate = kill_rank(0, at_step=60, number=signal.SIGTERM, need_standby=True)
    config = config_for(
        tf1_checkpoint("mlp"),
        tmp_path / "out",
        hang_floor_s=3.0,
        workers={"count": 2, "standby": 2},
        input=f"{INPUTS}:slow_batches",
    )
    result, watcher = play(config, stop, terminate)
    assert len(watcher.fired) == 2
    assert result.status == "done", result
    assert [(item["kind"], item["rank"], item["steps_redone"]) for item in result.incidents] == [
        ("hung", 1, 0)
    ]
    assert 0 < result.incidents[0]["detected_s"] <= 30.0, (
        "the bound is 3 s; how busy the machine is says nothing about the code"
    )
    (notice,) = watcher.named("worker_notice")
    assert notice["rank"] == 0
    last = watcher.named("generation")[-1]
    assert notice["worker"] not in last["workers"], "it kept its rank"
    assert_same_bytes(undisturbed, variables_of(Path(str(result.checkpoint))))


def test_group_that_cannot_be_formed_anew_in_place_is_replaced_with_its_live_state(
    cluster: str,
    tf1_checkpoint: Any,
    tmp_path: Path,
    undisturbed: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a group on ``nccl`` does, on CPU: the survivor's state goes to fresh processes and the
    survivor ends.
    """
    monkeypatch.setattr(startup, "recovers_in_place", lambda exchange: False)
    config = config_for(tf1_checkpoint("mlp"), tmp_path / "out", workers={"count": 2, "standby": 2})
    killed: list[str] = []

    def kill_when_two_are_warm(watcher: Watcher, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "step" and not killed and event["step"] >= 20 and len(watcher.standbys()) == 2:
            killed.append(watcher.ranks[1])
            os.kill(watcher.pids[watcher.ranks[1]], signal.SIGKILL)

    result, watcher = play(config, kill_when_two_are_warm)
    assert result.status == "done", result
    first, second = watcher.named("generation")
    assert not set(first["workers"]) & set(second["workers"]), (
        "a process of the broken group was formed again"
    )
    assert second["donor"] == first["workers"][0]
    assert [(item["rank"], item["steps_redone"]) for item in result.incidents] == [(1, 0)]
    assert [event["worker"] for event in watcher.named("worker_released")] == [
        first["workers"][0]
    ], "it lives on"
    assert_same_bytes(undisturbed, variables_of(Path(str(result.checkpoint))))
