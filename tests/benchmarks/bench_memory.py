"""How much memory do driver and worker take, over Ray's own and over the bare script?"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.benchmarks.bench_steps import resume_words
from tests.benchmarks.commands import ENVIRONMENT, ROOT, make_checkpoint, run
from tests.benchmarks.figures import Figure

STATE_MB = 256
RAY_ALONE = (
    "import os, psutil, ray; ray.init(num_cpus=2, include_dashboard=False, logging_level='ERROR');"
    "print(psutil.Process(os.getpid()).memory_info().rss)"
)


class PeakMemory:
    """The greatest resident memory of the processes below one process, by a name that tells them
    apart; bytes.
    """

    def __init__(self, root: psutil.Process, name_of: Callable[[psutil.Process], str]) -> None:
        self.peaks: dict[str, int] = {}
        self._root, self._name_of, self._done = root, name_of, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            try:
                for process in [self._root, *self._root.children(recursive=True)]:
                    name = self._name_of(process)
                    self.peaks[name] = max(self.peaks.get(name, 0), process.memory_info().rss)
            except psutil.Error:
                continue  # a process ended while it was looked at


def role_of(process: psutil.Process) -> str:
    """``worker``, ``driver`` or ``other``, by the command line."""
    words = " ".join(process.cmdline())
    if "Worker" in words and words.startswith("ray::"):
        return "worker"
    return "driver" if "orchestrator" in words or "launch.cli" in words else "other"


def figures(directory: Path) -> list[Figure]:
    """Driver over Ray's own; worker over the bare script plus one copy of the state."""
    meta = make_checkpoint(directory / "graph", "wide", f"megabytes={STATE_MB}")
    environment = {"PROBE_KIND": "wide", "PROBE_ROWS": "1"}
    bare = int(
        run(
            "-m",
            "tests.benchmarks.bare_tf1",
            meta,
            "50",
            probe_file=directory / "bare",
            **environment,  # type: ignore[arg-type]
        ).stdout.split()[-1]
    )
    alone = int(run("-c", RAY_ALONE, probe_file=directory / "ray").stdout.split()[-1])
    settings = os.environ | ENVIRONMENT | environment | {"PROBE_FILE": str(directory / "ours")}
    command = [sys.executable, *map(str, resume_words(meta, directory / "out", 1, 50))]
    with (
        subprocess.Popen(
            command, cwd=ROOT, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process,
        PeakMemory(psutil.Process(process.pid), role_of) as peak,
    ):
        code = process.wait(timeout=300)
    if code:
        raise RuntimeError(f"resume ended with {code}")
    state, mib = STATE_MB * 2**20, 2**20
    driver, worker = peak.peaks["driver"], peak.peaks["worker"]
    return [
        Figure(
            "driver memory over Ray's own, MiB",
            (driver - alone) / mib,
            200,
            True,
            f"driver {driver / mib:.0f} MiB, Ray alone {alone / mib:.0f} MiB",
        ),
        Figure(
            "worker memory over bare script + one state",
            worker / (bare + state),
            1.0,
            True,
            f"worker {worker / mib:.0f} MiB, bare {bare / mib:.0f} MiB, state {STATE_MB} MiB",
        ),
    ]
