"""One real Ray head with its job server, shared by the tests of this room."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

START_DEADLINE_S = 90.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ray_environment(home: Path) -> dict[str, str]:
    """A process environment in which this project's command is found and Ray keeps its files to
    itself.
    """
    own = {
        **os.environ,
        "HOME": str(home),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONWARNINGS": "ignore",
    }
    own["PATH"] = str(Path(sys.executable).parent) + os.pathsep + own["PATH"]
    own.pop("RAY_ADDRESS", None)
    return own


def start_head(
    home: Path, *words: str, environment: dict[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a Ray head in the foreground of a process of its own; returns it and its job server's
    address once that answers.
    """
    port, dashboard = free_port(), free_port()
    # short: the path of a socket below it must be under 108 bytes
    files = tempfile.mkdtemp(prefix="ray-")
    command = [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--head",
        "--block",
        f"--port={port}",
        "--num-cpus=8",
        f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={free_port()}",
        "--node-ip-address=127.0.0.1",
        f"--temp-dir={files}",
        f"--object-store-memory={300 * 1024 * 1024}",
        f"--ray-client-server-port={free_port()}",
        *words,
    ]
    with (home / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**ray_environment(home), **(environment or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{dashboard}"
    _wait_for_answer(process, address, home / "head.log")
    return process, address


def _wait_for_answer(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/api/version", timeout=2):
                return
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                return
        except OSError:
            pass
        time.sleep(0.2)
    stop_head(process)
    pytest.fail(f"the Ray head didn't start:\n{log.read_text()[-2000:]}")


def stop_head(process: subprocess.Popen[bytes]) -> None:
    """End a head that `start_head` started, and wait until it is gone."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@pytest.fixture(scope="session")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real job server; the cluster has one node of 8 CPUs (of Ray's bookkeeping)."""
    process, address = start_head(tmp_path_factory.mktemp("head"))
    yield address
    stop_head(process)
