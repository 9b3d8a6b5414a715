"""Does a run work on a cluster that asks for a token, and is a client without it told so before
anything is taken?
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launch.cli import run
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from tests.graphs.library import CheckpointLibrary
from tests.launch.conftest import ray_environment, start_head, stop_head
from tests.launch.feeds import WITHOUT_END

pytestmark = [pytest.mark.ray, pytest.mark.tf, pytest.mark.turns(32, "whole runs")]

TOKEN = "0planted0cluster0token0of0sixtyfour0characters0000000000000000000"
DEADLINE_S = 120.0


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} didn't happen within {DEADLINE_S:.0f} s"
        time.sleep(0.1)


@dataclass(frozen=True)
class Locked:
    """A cluster with token authentication."""

    address: str
    home: Path

    def tfresume(self, *words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        """The command, from a home directory without a token file."""
        environment = {
            **ray_environment(self.home),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
        }
        command = [sys.executable, "-m", "launch.cli", *words]
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def jobs(self) -> list[dict[str, Any]]:
        """What the job server shows to those who may ask."""
        request = urllib.request.Request(
            f"{self.address}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """One authenticated cluster for this module."""
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    process, address = start_head(tmp_path_factory.mktemp("locked"), environment=environment)
    yield Locked(address, tmp_path_factory.mktemp("home"))
    stop_head(process)


def _assert_refused(code: int, err: str, address: str) -> None:
    assert code == 2, err
    assert err.count("error:") == 1
    assert f"the job server at {address} refuses this client" in err
    assert "RAY_AUTH_TOKEN" in err.partition("what to do:")[2]
    assert "Traceback" not in err


def test_client_with_a_wrong_token_is_refused_and_nothing_is_submitted(
    locked: Locked, tmp_path: Path
) -> None:
    wrong = "f" * 64
    words = (
        "submit",
        str(tmp_path),
        "--output",
        str(tmp_path / "out"),
        "--address",
        locked.address,
    )
    done = locked.tfresume(*words, token=wrong)
    _assert_refused(done.returncode, done.stderr, locked.address)
    assert wrong not in done.stdout + done.stderr
    assert locked.jobs() == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["submit", "stop", "logs", "doctor"])
def test_client_without_a_token_is_refused_in_every_command(
    command: str, locked: Locked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"submit": [str(tmp_path), "--output", str(tmp_path / "out")], "doctor": []}.get(
        command, [str(tmp_path)]
    )
    code = run([command, *place, "--address", locked.address])
    _assert_refused(code, capsys.readouterr().err, locked.address)
    assert locked.jobs() == []


def test_run_on_a_cluster_with_a_token_is_submitted_followed_and_stopped(
    locked: Locked,
    tf1_checkpoint: CheckpointLibrary,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds.py").write_text(WITHOUT_END)
    output = tmp_path / "out"
    words: Mapping[str, str] = {
        "--until-step": "100000",
        "--workers": "2",
        "--input": "feeds.py:batches",
    }
    flags = [word for pair in words.items() for word in pair]
    submitted = locked.tfresume(
        "submit",
        str(tf1_checkpoint("mlp")),
        "--output",
        str(output),
        "--address",
        locked.address,
        "--json",
        *flags,
    )
    assert submitted.returncode == 0, submitted.stderr
    place = open_location(str(output))
    until(lambda: any(event["event"] == "training" for event in read_journal(place)), "training")
    logs = locked.tfresume("logs", str(output), "--address", locked.address)
    assert "generation 1: 2 workers" in logs.stdout, logs.stderr
    stopped = locked.tfresume("stop", str(output), "--address", locked.address, "--json")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert json.loads(stopped.stdout)["state"] == "stopped"
    (finish,) = [event for event in read_journal(place) if event["event"] == "finish"]
    assert list_checkpoints(place)[0].step == finish["step"]
    told = "".join(
        (logs.stdout, stopped.stdout, json.dumps(locked.jobs()), json.dumps(read_journal(place)))
    )
    told += "".join(
        file.read_text(errors="replace")
        for file in output.rglob("*")
        if file.suffix in (".json", ".jsonl")
    )
    assert TOKEN not in told
