"""How long does a save hold up training, against ``Saver.save`` on the same state, and how much memory does it take?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from tests.benchmarks import probe
from tests.benchmarks.bench_memory import PeakMemory, role_of
from tests.benchmarks.commands import ENVIRONMENT, ROOT, make_checkpoint, run, tfresume
from tests.benchmarks.figures import Figure, spread

STATE_MB, STEPS, SAVE_EVERY = 1024, 60, 20
SAVER = """
import sys, time, tensorflow.compat.v1 as tf
tf.disable_eager_execution()
with tf.Session() as session:
    saver = tf.train.import_meta_graph(sys.argv[1], clear_devices=True)
    saver.restore(session, sys.argv[1].removesuffix('.meta'))
    for turn in range(3):
        started = time.perf_counter()
        saver.save(session, sys.argv[2] + '/again', global_step=turn)
        print(time.perf_counter() - started)
"""


def _stalls_s(log: Path) -> list[float]:
    """Seconds that the gap before a saved step's successor is longer than the median gap."""
    times = {moment.step: moment.at for moment in probe.moments(log)}
    gaps = {step: times[step] - times[step - 1] for step in times if step - 1 in times}
    usual = median(gaps.values())
    near = [[gaps[each] for each in range(step - 1, step + 3) if each in gaps] for step in gaps if step % SAVE_EVERY == 0]
    return [max(max(each) - usual, 0.0) for each in near[1:]]


def figures(directory: Path) -> list[Figure]:
    """Stall and memory of saves of one gigabyte."""
    meta = make_checkpoint(directory / "graph", "wide", f"megabytes={STATE_MB}")
    (directory / "saver").mkdir()
    plain = [float(line) for line in run("-c", SAVER, meta, directory / "saver", probe_file=directory / "unused").stdout.split()]
    log = directory / "probe"
    settings = os.environ | ENVIRONMENT | {"PROBE_FILE": str(log), "PROBE_KIND": "wide", "PROBE_ROWS": "1"}
    words = tfresume(
        *("resume", meta, "--output", directory / "out", "--workers", "1", "--steps", str(STEPS), "--max-to-keep", "1"),
        *("--save-steps", str(SAVE_EVERY), "--input", "tests.benchmarks.probe:batches", "--json"),
    )
    command = [sys.executable, *map(str, words)]
    with (
        subprocess.Popen(command, cwd=ROOT, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        PeakMemory(psutil.Process(process.pid), role_of) as peak,
    ):
        code = process.wait(timeout=580)
    if code:
        raise RuntimeError(f"resume ended with {code}")
    stalls = _stalls_s(log)
    worker = peak.peaks["worker"] / 2**20
    behind = f"stall {spread(stalls, 's')}, Saver.save {spread(plain, 's')}"
    return [
        Figure(
            f"stall by a save of {STATE_MB} MiB over Saver.save's time",
            float(np.median(stalls)) / median(plain),
            0.10,
            True,
            behind,
        ),
        Figure(
            "worker memory while saving, MiB over 2 x state + 256", worker / (2 * STATE_MB + 256), 1.0, True, f"{worker:.0f} MiB"
        ),
    ]
