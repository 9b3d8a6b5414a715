"""How are the compared programs run? Each as the command that a user would type, in a process of
its own.

Rule: one program at a time, unless two are one thing (two workers); the pairs of a comparison
alternate, and medians are quoted.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": str(ROOT),
}


@dataclass(frozen=True)
class Finished:
    """One program that ran: unix seconds at its start, seconds that it took, its standard output."""

    started_at: float
    wall_s: float
    stdout: str


def run(
    *words: str | Path, probe_file: Path, timeout_s: float = 300, **environment: str
) -> Finished:
    """Runs ``python WORDS`` to its end and raises with its output where it fails."""
    (finished,) = run_together([words], probe_file=probe_file, timeout_s=timeout_s, **environment)
    return finished


def run_together(
    programs: Iterable[tuple[str | Path, ...]],
    *,
    probe_file: Path,
    timeout_s: float = 300,
    **environment: str,
) -> list[Finished]:
    """Runs several python programs at once."""
    settings = os.environ | ENVIRONMENT | {"PROBE_FILE": str(probe_file)} | environment
    started = time.time()
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            env=settings,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for words in programs
    ]
    finished = []
    for process in processes:
        stdout, stderr = process.communicate(timeout=timeout_s)
        if process.returncode:
            raise RuntimeError(
                f"{process.args} ended with {process.returncode}:\n{stdout[-2000:]}\n{stderr[-4000:]}"  # type: ignore[str-bytes-safe]
            )
        finished.append(Finished(started, time.time() - started, stdout))
    return finished


def tfresume(*words: str | Path) -> tuple[str | Path, ...]:
    """The words that run the command line from this checkout."""
    return ("-m", "launch.cli", *words)


def free_ports(count: int) -> list[str]:
    """Ports that the system gave and that are free again."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def make_checkpoint(directory: Path, kind: str, *options: str) -> Path:
    """The ``.meta`` of a small TF1 run."""
    directory.mkdir(parents=True, exist_ok=True)
    made = run(
        "-m", "tests.graphs.makers", kind, directory, *options, probe_file=directory / "unused"
    )
    return Path(made.stdout.strip().splitlines()[-1] + ".meta")
