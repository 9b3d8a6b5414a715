"""A run under the real supervisor, in processes of its own, and what is left of it in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from orchestrator.store.run.journal_parts import Tell, refuse
from tests.chaos.runs import config_for

ROOT = Path(__file__).resolve().parents[2]

PACED = """
import pathlib, time
from tests.chaos.batches import fast_batches


def batches(ctx):
    for batch in fast_batches(ctx):
        if not pathlib.Path({quick!r}).exists():
            time.sleep({seconds})
        yield batch
"""


class Supervised:
    """A run under the real supervisor, in processes of its own.

    Args:
        address: of a Ray cluster; with None the supervisor starts one.
        options: what fsspec needs for the output.
        environment: besides this process's own.
    """

    def __init__(
        self,
        source: Any,
        output: Any,
        address: str | None,
        options: Mapping[str, Any] = {},
        environment: Mapping[str, str] = {},
        **changes: Any,
    ) -> None:
        self.output = open_location(str(output), **(options or {}))
        self.tell: Tell = refuse  # what is damaged, unless a test has damaged it
        config = config_for(source, output, address=address, **changes).model_dump(mode="json")
        command = [
            sys.executable,
            "-m",
            "tests.chaos.supervised",
            "--supervise",
            json.dumps(config),
        ]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        )

    def journal(self) -> list[dict[str, Any]]:
        return read_journal(self.output, self.tell)

    def pid_of(self, worker: str) -> int:
        """The process of a worker."""
        return int(
            next(event["pid"] for event in self.events("worker_warm") if event["worker"] == worker)
        )

    def events(self, name: str, attempt: int | None = None) -> list[dict[str, Any]]:
        return [
            event
            for event in self.journal()
            if event["event"] == name and attempt in (None, event["attempt"])
        ]

    def wait_for(self, holds: Callable[[], Any], seconds: float = 60.0) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = holds()
            if found:
                return found
            assert self.process.poll() is None, "the run ended too soon"
            time.sleep(0.1)
        raise AssertionError("what the test waits for didn't come")

    def end(self, seconds: float = 90.0) -> int:
        return self.process.wait(seconds)


def wait_until(holds: Callable[[], Any], otherwise: str, seconds: float = 60.0) -> None:
    """Returns when it holds. Raises AssertionError with ``otherwise`` when it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)
