"""How long from a SIGKILL of one of two workers to the next useful step, beside Ray Train's
TensorflowTrainer?

Rule: our run is timed by the user's input function (see ``probe``): the step in flight counts as
done when the next batch is asked for. The peer's script lies beside the checkout in
``../shared/peers`` and needs the ``bench`` extra; without it our figures stand alone.
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
from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.budgets import Budgets
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from tests.benchmarks import probe
from tests.benchmarks.commands import ENVIRONMENT, ROOT, make_checkpoint, run, tfresume
from tests.benchmarks.figures import Figure, spread
from tests.simulation.world import policy

KILLS, STEPS_BETWEEN_KILLS = 8, 100
PEER = ROOT.parent / "shared" / "peers" / "ray_train_baseline.py"


def wait_for(
    condition: Callable[[], bool], what: str, timeout_s: float = 120, every_s: float = 0.02
) -> None:
    """Returns when the condition holds; raises with ``what`` where it doesn't in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(every_s)


class Run:
    """A resume in the background whose workers can be killed.

    Attributes:
        log: the probe's file.
    """

    def __init__(self, meta: Path, directory: Path, *extra: str, steps: int = 10**6) -> None:
        self.log = directory / "probe"
        self.output = open_location(str(directory / "out"))
        self.log.touch()
        words = tfresume(
            *(
                "resume",
                meta,
                "--output",
                directory / "out",
                "--steps",
                str(steps),
                "--save-steps",
                "1000000",
            ),
            *("--input", "tests.benchmarks.probe:batches", "--json", *extra),
        )
        settings = os.environ | ENVIRONMENT | {"PROBE_FILE": str(self.log)}
        self._errors = (directory / "stderr").open("w")
        self._process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            env=settings,
            text=True,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """The run's journaled events of this name."""
        return [event for event in read_journal(self.output) if event["event"] == name]

    def wait_for_warm(self, count: int, timeout_s: float = 120) -> None:
        """Returns when so many workers have become warm since the run began."""
        wait_for(
            lambda: len(self.events("worker_warm")) >= count,
            f"{count} workers didn't get warm",
            timeout_s,
            every_s=0.5,
        )

    def wait_for_step(self, step: int, timeout_s: float = 120) -> None:
        """Returns when rank 0 asked for a batch of this step or a later one."""
        wait_for(
            lambda: any(m.rank == 0 and m.step >= step for m in self.moments()),
            f"step {step} was not reached",
            timeout_s,
        )

    def moments(self) -> list[probe.Moment]:
        return probe.moments(self.log)

    def kill(self, rank: int, with_signal: signal.Signals = signal.SIGKILL) -> tuple[float, int]:
        """Kills the process that has this rank now; unix seconds of the kill and rank 0's last step
        asked for.
        """
        moments = self.moments()
        last = max(m.step for m in moments if m.rank == 0)
        pid = [m.pid for m in moments if m.rank == rank][-1]
        at = time.time()
        os.kill(pid, with_signal)
        return at, last

    def recovered(self, killed_at: float, last_step: int) -> tuple[float, int]:
        """Seconds from the kill to the end of the first step of the new generation, and the steps
        that were done twice.
        """

        def after() -> list[probe.Moment]:
            moments = [m for m in self.moments() if m.rank == 0 and m.at > killed_at]
            anew = next((i for i, m in enumerate(moments) if m.first), None)
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


def _kills(meta: Path, directory: Path) -> tuple[list[float], list[int]]:
    """Seconds to the next step, and steps redone, of each kill while a standby is warm."""
    directory.mkdir(parents=True)
    run_ = Run(meta, directory, "--workers", "2", "--workers.standby", "1")
    taken, redone = [], []
    try:
        for kill in range(KILLS):
            run_.wait_for_warm(3 + kill)
            run_.wait_for_step(
                max(m.step for m in run_.moments() or [probe.Moment(0, 0, 0, 0, 0)])
                + STEPS_BETWEEN_KILLS
            )
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


def _shrink(meta: Path, directory: Path) -> tuple[float, float]:
    """Without a standby: seconds to the survivor's next step, and to the replacement's first one."""
    directory.mkdir(parents=True)
    run_ = Run(meta, directory, "--workers", "2", "--workers.min", "1", "--on-loss", "replace")
    try:
        run_.wait_for_step(STEPS_BETWEEN_KILLS)
        at, last = run_.kill(1)
        seconds, _ = run_.recovered(at, last)

        def replaced() -> list[probe.Moment]:
            return [moment for moment in run_.moments() if moment.rank == 1 and moment.at > at]

        wait_for(lambda: len(replaced()) >= 2, "no replacement", every_s=0.1)
        return seconds, replaced()[1].at - at
    finally:
        run_.end()


def _hang_s(meta: Path, directory: Path) -> float:
    """Seconds from SIGSTOP of a worker until it's found."""
    directory.mkdir(parents=True)
    run_ = Run(meta, directory, "--workers", "2", "--workers.standby", "1")
    try:
        run_.wait_for_warm(3)
        run_.wait_for_step(STEPS_BETWEEN_KILLS)
        at, _ = run_.kill(1, signal.SIGSTOP)
        wait_for(lambda: bool(run_.events("worker_hung")), "the hang wasn't found", every_s=0.5)
        return float(run_.events("worker_hung")[0]["at"]) - at
    finally:
        run_.end()


def _driver_s(meta: Path, directory: Path) -> float:
    """Seconds from the driver's SIGKILL to the first step beyond the leases that it had given."""
    directory.mkdir(parents=True)
    run_ = Run(meta, directory, "--workers", "2")
    try:
        run_.wait_for_step(STEPS_BETWEEN_KILLS)
        at = time.time()
        os.kill(int(run_.events("attempt")[0]["pid"]), signal.SIGKILL)
        wait_for(lambda: bool(run_.events("adopted")), "no driver took over", every_s=0.2)
        adopted_at = float(run_.events("adopted")[0]["at"])

        def after() -> list[probe.Moment]:
            return [
                moment for moment in run_.moments() if moment.rank == 0 and moment.at > adopted_at
            ]

        wait_for(lambda: len(after()) >= 2, "no step after the new driver came")
        return after()[1].at - at
    finally:
        run_.end()


def _events_per_s(count: int = 16, events: int = 50_000) -> float:
    """Decisions about signs of life of a group that steps, the event that a driver sees most."""
    run_, _ = machine.begin(
        policy(count=count, until=10**9), ev.Found(0, 0), None, Budgets(50), 0, 0.0
    )
    names = [f"w{number:04d}" for number in range(1, count + 1)]
    for name in names:
        run_, actions = machine.advance(run_, ev.Warm(name, "n", 1, f"{name}:1"), 1.0)
    (form,) = [action for action in actions if isinstance(action, act.Form)]
    for name in names:
        run_, _ = machine.advance(run_, ev.Joined(name, form.generation, 0), 1.0)
    began_s = time.perf_counter()
    for number in range(events):
        pulse = ev.Progress(
            names[number % count], form.generation, number // count, ev.Doing.STEP, 100.0
        )
        run_, _ = machine.advance(run_, pulse, 1.0 + number / count / 100)
    return events / (time.perf_counter() - began_s)


def figures(directory: Path) -> list[Figure]:
    """Recovery with a standby, without one, from a hang and from the driver's death; and the rules
    alone.
    """
    meta = make_checkpoint(directory / "graph", "mnist", "units=1250")  # 10 MB of state
    standby, redone = _kills(meta, directory / "standby")
    shrink, replaced = _shrink(meta, directory / "shrink")
    hang, driver = _hang_s(meta, directory / "hang"), _driver_s(meta, directory / "driver")
    peer = _peer_s(directory)
    beside = f"Ray Train {peer:.1f} s" if peer else "Ray Train not run"
    p95 = quantiles(standby, n=20, method="inclusive")[-1]
    return [
        Figure(
            "kill to next step, standby, median s",
            median(standby),
            0.15,
            True,
            f"{spread(standby, 's')}; {beside}",
        ),
        Figure("kill to next step, standby, p95 s", p95, 0.3, True, f"{len(standby)} kills"),
        Figure("steps redone, all kills", float(sum(redone)), 0, True, f"{len(redone)} kills"),
        Figure(
            "kill to survivors' next step without standby, s", shrink, 0.08, True, "shrink to one"
        ),
        Figure(
            "kill to the replacement's first step, s",
            replaced,
            2.5,
            True,
            "TensorFlow's import included",
        ),
        Figure("SIGSTOP to found, s", hang, 5.0, True, "the stated floor, steps being short"),
        Figure(
            "driver's SIGKILL to the next leased step, s", driver, 8.0, True, "its workers live on"
        ),
        Figure(
            "decisions about 16 workers, events/s", _events_per_s(), 20_000, False, "signs of life"
        ),
    ]
