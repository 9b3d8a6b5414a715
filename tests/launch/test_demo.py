"""Does the demo show what it says: a real run, a real kill, a real result?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.demo import Killer, child
from orchestrator.driver.observer import RunProgress
from orchestrator.errors import FatalError
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from tests.launch.conftest import ray_environment


def at(step: int) -> RunProgress:
    return RunProgress(
        step=step, loss=None, steps_per_s=0.0, checkpoint=None, world_size=2, until=100
    )


def test_killer_kills_the_highest_rank_once_and_only_from_its_step_on() -> None:
    killed: list[tuple[int, int]] = []
    killer = Killer(50, kill=lambda pid, number: killed.append((pid, number)))
    for worker, pid in (("w0001", 11), ("w0002", 22), ("w0003", 33)):
        killer.event({"event": "worker_warm", "worker": worker, "pid": pid})
    killer.progress(at(60))
    assert killed == []  # nobody has a rank yet
    killer.event({"event": "generation", "workers": ["w0001", "w0002"]})
    killer.progress(at(49))
    assert killed == []
    killer.progress(at(50))
    killer.event({"event": "generation", "workers": ["w0001", "w0003"]})
    killer.progress(at(80))
    assert killed == [(22, signal.SIGKILL)]


def test_child_that_fails_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="demo's TF1 program failed"):
        child("train", str(tmp_path / "absent" / "deep"), "not a number")


@pytest.mark.tf
@pytest.mark.ray
@pytest.mark.chaos
def test_demo_kills_a_worker_loses_no_step_and_ends_with_a_checkpoint_that_plain_tensorflow_loads(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "launch.cli",
            "demo",
            "--directory",
            str(tmp_path / "demo"),
            "--json",
        ],
        env=ray_environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["status"] == "done"
    assert told["final_step"] == 2550
    assert told["loss_after"] < told["loss_before"]
    (incident,) = told["incidents"]
    assert (incident["rank"], incident["steps_redone"]) == (1, 0)
    losses = [
        event["loss"]
        for event in read_journal(open_location(told["output"]))
        if event["event"] == "progress"
    ]
    # before its first batch a group has none
    losses = [loss for loss in losses if loss is not None]
    assert len(losses) >= 3
    third = len(losses) // 3
    assert sum(losses[-third:]) < sum(losses[:third]), (
        "the report's line falls; one batch's loss may be high at any time"
    )
    assert losses[-1] < told["loss_before"]
    with pytest.raises(ProcessLookupError):
        os.kill(told["killed_pid"], 0)
    devices = (tmp_path / "demo" / "old-run" / "model.ckpt-150.meta").read_bytes()
    assert b"/job:ps/task:0" in devices
    assert b":3" in devices
    assert "Traceback" not in done.stderr
    assert "(raylet)" not in done.stderr
