"""What does this project do, shown in under a minute on one machine?

Rule: everything in the demo is real: a TF1 run with device strings of machines that don't exist,
the command's own entry point on two workers and a standby, a SIGKILL in the middle, and plain TF1
code that loads the result. TensorFlow never enters this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config import parse_config
from orchestrator.errors import FatalError
from orchestrator.journal.group_events import GenerationFormed
from orchestrator.journal.parsing import parse
from orchestrator.journal.worker_events import WorkerWarm

if TYPE_CHECKING:
    from orchestrator.driver.observer import Observer, RunProgress

MAKER = "orchestrator.training.baseline.demo_run"
STEPS_BEFORE, STEPS_MORE, SAVE_STEPS = 150, 2400, 500
"""Few enough for a demo, and enough after the kill, in the middle of the further steps, to see the
run go on: an observer is told of progress four times a second, and a fast machine takes a thousand
steps in one.
"""
CHILD_TIMEOUT_S = 120.0
"""The TF1 program needs seconds; importing TensorFlow took a minute on a cold disk."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo found. Losses are on a batch that no step trains on."""

    source: str
    output: str
    loss_before: float
    loss_after: float
    final_step: int
    killed_pid: int | None
    result: Any

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``: the fields of ``resume --json`` and the demo's own."""
        own = {
            "source": self.source,
            "output": self.output,
            "loss_before": self.loss_before,
            "loss_after": self.loss_after,
            "killed_pid": self.killed_pid,
        }
        return {**self.result.as_dict(), **own}


@dataclass
class Killer:
    """An observer that kills the worker of the highest rank once the run is half way."""

    at_step: int
    kill: Callable[[int, int], None] = os.kill
    pids: dict[str, int] = field(default_factory=dict)
    ranks: list[str] = field(default_factory=list)
    killed: int | None = None

    def event(self, event: Mapping[str, Any]) -> None:
        """Remember who holds which rank."""
        match parse(event):
            case WorkerWarm(worker=worker, pid=pid) if pid is not None:
                self.pids[worker] = pid
            case GenerationFormed(workers=workers):
                self.ranks = list(workers)

    def progress(self, progress: RunProgress) -> None:
        """Kill once."""
        if self.killed is None and progress.step >= self.at_step and len(self.ranks) > 1:
            self.killed = self.pids[self.ranks[-1]]
            self.kill(self.killed, signal.SIGKILL)


def demo(directory: Path, observers: list[Observer], say: Callable[[str], None]) -> DemoResult:
    """Make a run, continue it on two workers with one of them killed, and load the result with
    plain TensorFlow.

    Args:
        directory: where source and output go; made if it isn't there.
        observers: who watches the run.
        say: told what happens next, a sentence at a time.

    Raises:
        FatalError: a child process failed, or the run didn't reach its end.
        ConfigError: nothing can be written there, or Ray can't start.
    """
    from orchestrator.driver.main import resume

    source = directory / "old-run"
    source.mkdir(parents=True, exist_ok=True)
    say(
        f"1  An old TF1 run trains {STEPS_BEFORE} steps and saves, with variables on /job:ps and layers on /gpu:3 …"
    )
    made = child("train", str(source), str(STEPS_BEFORE))
    say(f"   loss {made['loss']:.4f}; left behind: {made['prefix']}.meta, .index and .data")
    end = STEPS_BEFORE + STEPS_MORE
    say(f"2  tfresume continues it to step {end} on two workers, and kills one of them half way …")
    killer = Killer(STEPS_BEFORE + STEPS_MORE // 2)
    config = {
        "source": str(source),
        "output": str(directory / "resumed"),
        "until_step": end,
        "save_steps": SAVE_STEPS,
        "workers": {"count": 2, "standby": 1},
        "input": f"{MAKER}:batches",
    }
    result = resume(parse_config(config), observer=[*observers, killer])
    if result.status != "done" or result.checkpoint is None:
        raise FatalError(
            f"the demo's run ended as {result.status}: {result.reason}",
            remedy="Run it again with --verbose",
        )
    say("3  Plain TF1 code, without tfresume, loads the newest checkpoint …")
    loaded = child("evaluate", result.checkpoint)
    say(f"   step {loaded['step']}, loss {loaded['loss']:.4f} (was {made['loss']:.4f})")
    return DemoResult(
        str(source),
        str(directory / "resumed"),
        made["loss"],
        loaded["loss"],
        loaded["step"],
        killer.killed,
        result,
    )


def child(*words: str) -> dict[str, Any]:
    """Run the demo's TF1 program in a process of its own; its answer.

    Raises:
        FatalError: it failed; with the last lines it wrote.
    """
    environment = os.environ | {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", MAKER, *words]
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=CHILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FatalError(
            f"the demo's TF1 program took longer than {CHILD_TIMEOUT_S:.0f} s",
            remedy="Try `tfresume doctor`",
        ) from error
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise FatalError(f"the demo's TF1 program failed:\n{last}", remedy="Try `tfresume doctor`")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer
