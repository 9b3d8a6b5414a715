"""Does ``stop`` end what a dead driver has left on a cluster: detached workers and their places?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch import stop
from launch.cli import run
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from tests.graphs.library import CheckpointLibrary
from tests.launch.feeds import WITHOUT_END

pytestmark = [
    pytest.mark.ray,
    pytest.mark.tf,
    pytest.mark.chaos,
    pytest.mark.turns(32, "whole runs"),
]
DEADLINE_S = 90.0


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} didn't happen within {DEADLINE_S:.0f} s"
        time.sleep(0.1)


def test_stop_of_a_dead_drivers_run_ends_its_workers_and_frees_their_places(
    ray_address: str,
    tf1_checkpoint: CheckpointLibrary,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nobody is left here who could start another driver
    monkeypatch.setattr(stop, "SUCCESSOR_S", 2.0)
    # not all of them, where an earlier test's workers haven't ended yet
    places = _free_places(ray_address)
    (tmp_path / "feeds.py").write_text(WITHOUT_END)
    output = str(tmp_path / "out")
    words = [
        "--until-step",
        "100000",
        "--workers",
        "2",
        "--workers.standby",
        "1",
        "--input",
        f"{tmp_path}/feeds.py:batches",
    ]
    command = [
        sys.executable,
        "-m",
        "launch.cli",
        "resume",
        str(tf1_checkpoint("mlp")),
        "--output",
        output,
    ]
    supervisor = subprocess.Popen(
        [*command, "--address", ray_address, "--orphan-timeout-s", "900", *words], env=os.environ
    )

    def told(kind: str) -> list[dict[str, Any]]:
        return [event for event in read_journal(open_location(output)) if event["event"] == kind]

    until(
        lambda: told("training") and len(told("worker_warm")) == 3, "training with a warm standby"
    )
    (driver,) = (event["pid"] for event in told("attempt"))
    workers = [event["pid"] for event in told("worker_warm")]
    supervisor.kill()  # and with it the driver
    supervisor.wait(10)
    until(lambda: not psutil.pid_exists(driver), "the driver's end")
    assert all(psutil.pid_exists(pid) for pid in workers)

    assert run(["stop", output]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "its driver is gone already" in shown
    assert "--address" in shown

    assert run(["stop", output, "--address", ray_address, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["state"], answer["workers_ended"]) == ("dead", 3)
    until(lambda: not any(psutil.pid_exists(pid) for pid in workers), "the workers' end")
    assert run(["stop", output, "--address", ray_address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["workers_ended"] == 0
    until(lambda: _free_places(ray_address) >= places, "the places given back")


def _free_places(address: str) -> float:
    import ray

    ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    try:
        return float(ray.available_resources().get("CPU", 0.0))
    finally:
        ray.shutdown()
