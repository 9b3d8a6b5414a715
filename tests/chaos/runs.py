"""A run with real Ray and real TensorFlow that a test disturbs.

Rule: faults come from outside: an observer kills real processes when it sees what it waits for.
Each fault says whether it fired.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver.main import resume
from orchestrator.driver.observer import RunProgress
from orchestrator.driver.result import RunResult
from tests import forked

INPUTS = Path(__file__).with_name("batches.py")


class Watcher:
    """Follows a run's events: who has which rank and process, and what happens when."""

    def __init__(self, *faults: Callable[[Watcher, str, Mapping[str, Any]], None]) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.pids: dict[str, int] = {}
        self.ranks: list[str] = []
        self.step = 0
        self.fired: list[str] = []
        self.errors: list[Exception] = []
        self._faults = list(faults)

    def event(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)
        if event["event"] == "worker_warm":
            self.pids[event["worker"]] = event["pid"]
        elif event["event"] == "generation":
            self.ranks = list(event["workers"])
        self._tell(str(event["event"]), event)

    def progress(self, progress: RunProgress) -> None:
        self.step = progress.step
        self._tell("step", {"step": progress.step, "values": progress.values})

    def _tell(self, kind: str, event: Mapping[str, Any]) -> None:
        for fault in list(self._faults):
            try:
                fault(self, kind, event)
            except Exception as error:
                self.errors.append(error)  # the driver drops an observer that raises
                raise

    def drop(self, fault: Any) -> None:
        self._faults.remove(fault)

    def standbys(self) -> list[str]:
        dead = {
            event["worker"]
            for event in self.events
            if event["event"] in ("worker_lost", "worker_released")
        }
        return [worker for worker in self.pids if worker not in self.ranks and worker not in dead]

    def named(self, name: str) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["event"] == name]


def kill_rank(
    rank: int, *, at_step: int, number: int = signal.SIGKILL, need_standby: bool = False
) -> Any:
    """A fault: signal the process of ``rank`` once the run shows ``at_step`` (and has a standby,
    where asked).
    """

    def fault(watcher: Watcher, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "step" and event["step"] >= at_step and (watcher.standbys() or not need_standby):
            watcher.drop(fault)
            worker = watcher.ranks[rank]
            os.kill(watcher.pids[worker], number)
            watcher.fired.append(f"rank {rank} at {event['step']}")

    return fault


def config_for(source: Path, output: Path, **changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "source": str(source),
        "output": str(output),
        "until_step": 120,
        "save_steps": 1000,
        "workers": {"count": 2, "standby": 1},
        "input": f"{INPUTS}:batches",
        "deterministic": True,
        "tensorboard": False,
        "prove": False,  # what a group computes is no question here
    }
    return parse_config({**values, **changes})


def play(config: RunConfig, *faults: Any) -> tuple[RunResult, Watcher]:
    watcher = Watcher(*faults)
    result = resume(config, observer=watcher)
    assert not watcher.errors, watcher.errors
    return result, watcher


def variables_of(prefix: Path) -> dict[str, np.ndarray]:
    """Every variable of a checkpoint, read in a process of its own by plain TensorFlow."""
    with tempfile.TemporaryDirectory() as scratch:
        done = forked.run(
            Path(__file__).with_name("variables.py"), prefix, f"{scratch}/variables.npz"
        )
        assert done.returncode == 0, done.stderr[-4000:]
        with np.load(f"{scratch}/variables.npz") as arrays:
            return {name: arrays[name] for name in arrays.files}
