"""How long from a SIGKILL of one of two workers to the next useful step, beside Ray Train's TensorflowTrainer?

Rule: our run is timed by the user's input function (see ``probe``): the step in flight counts as done when the next batch is asked for.
The peer's script lies beside the checkout in ``../shared/peers`` and needs the ``bench`` extra; without it our figures stand alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles

from tests.benchmarks import probe
from tests.benchmarks.commands import ENVIRONMENT, ROOT, make_checkpoint, run, tfresume
from tests.benchmarks.figures import Figure, spread

KILLS, STEPS_BETWEEN_KILLS = 8, 300
PEER = ROOT.parent / "shared" / "peers" / "ray_train_baseline.py"


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    """Returns when the condition holds; raises with ``what`` where it doesn't in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)


class Run:
    """A resume in the background whose workers can be killed.

    Attributes:
        log: the probe's file.
    """

    def __init__(self, meta: Path, directory: Path, *extra: str, steps: int = 10**6) -> None:
        self.log = directory / "probe"
        self.log.touch()
        words = tfresume(
            *("resume", meta, "--output", directory / "out", "--steps", str(steps), "--save-steps", "1000000"),
            *("--input", "tests.benchmarks.probe:batches", "--json", *extra),
        )
        settings = os.environ | ENVIRONMENT | {"PROBE_FILE": str(self.log)}
        self._errors = (directory / "stderr").open("w")
        self._process = subprocess.Popen(
            [sys.executable, *map(str, words)], cwd=ROOT, env=settings, text=True, stdout=subprocess.PIPE, stderr=self._errors
        )

    def wait_for_step(self, step: int, timeout_s: float = 120) -> None:
        """Returns when rank 0 asked for a batch of this step or a later one."""
        wait_for(lambda: any(m.rank == 0 and m.step >= step for m in self.moments()), f"step {step} was not reached", timeout_s)

    def moments(self) -> list[probe.Moment]:
        return probe.moments(self.log)

    def kill(self, rank: int, with_signal: signal.Signals = signal.SIGKILL) -> tuple[float, int]:
        """Kills the process that has this rank now; unix seconds of the kill and rank 0's last step asked for."""
        moments = self.moments()
        last = max(m.step for m in moments if m.rank == 0)
        pid = [m.pid for m in moments if m.rank == rank][-1]
        at = time.time()
        os.kill(pid, with_signal)
        return at, last

    def recovered(self, killed_at: float, last_step: int) -> tuple[float, int]:
        """Seconds from the kill to the end of the first step of the new generation, and the steps that were done twice."""

        def after() -> list[probe.Moment]:
            moments = [m for m in self.moments() if m.rank == 0 and m.at > killed_at]
            anew = next((i for i, m in enumerate(moments) if (i and m.step <= moments[i - 1].step) or m.step <= last_step), None)
            return [] if anew is None else moments[anew:]

        wait_for(lambda: len(after()) >= 2, "no step after the kill")
        first, second = after()[:2]
        return second.at - killed_at, max(0, last_step - first.step)

    def end(self) -> dict[str, object]:
        """Stops the run as Ctrl-C would; its result."""
        self._process.send_signal(signal.SIGINT)
        stdout, _ = self._process.communicate(timeout=120)
        self._errors.close()
        return dict(json.loads(stdout))


def _kills(meta: Path, directory: Path, *extra: str) -> tuple[list[float], list[int]]:
    directory.mkdir(parents=True)
    run_ = Run(meta, directory, *extra)
    taken, redone = [], []
    try:
        for kill in range(KILLS):
            run_.wait_for_step((kill + 1) * STEPS_BETWEEN_KILLS)
            at, last = run_.kill(1)
            seconds, again = run_.recovered(at, last)
            taken.append(seconds)
            redone.append(again)
    finally:
        run_.end()
    return taken, redone


def _peer_s(directory: Path) -> float | None:
    if not PEER.is_file() or find_spec("pandas") is None:
        return None
    done = run(PEER, directory / "peer", probe_file=directory / "unused", timeout_s=400)
    return float(json.loads(done.stdout.strip().splitlines()[-1])["recovery_s"])


def figures(directory: Path) -> list[Figure]:
    """Recovery with a standby, and the survivors' next step without one."""
    meta = make_checkpoint(directory / "graph", "mnist")
    standby, redone = _kills(meta, directory / "standby", "--workers", "2", "--workers.standby", "1")
    shrink, _ = _shrink(meta, directory / "shrink")
    peer = _peer_s(directory)
    beside = f"Ray Train {peer:.1f} s" if peer else "Ray Train not run"
    p95 = quantiles(standby, n=20)[-1]
    return [
        Figure("kill to next step, standby, median s", median(standby), 0.7, True, f"{spread(standby, 's')}; {beside}"),
        Figure("kill to next step, standby, p95 s", p95, 1.5, True, f"{len(standby)} kills"),
        Figure("steps redone, all kills", float(sum(redone)), 0, True, f"{len(redone)} kills"),
        Figure("kill to survivors' next step without standby, s", shrink, 1.0, True, "shrink to one, then replaced"),
    ]


def _shrink(meta: Path, directory: Path) -> tuple[float, int]:
    directory.mkdir(parents=True)
    run_ = Run(meta, directory, "--workers", "2", "--workers.min", "1", "--on-loss", "replace")
    try:
        run_.wait_for_step(STEPS_BETWEEN_KILLS)
        return run_.recovered(*run_.kill(1))
    finally:
        run_.end()
