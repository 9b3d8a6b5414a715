"""How long does a save hold up training, against ``Saver.save`` on the same state, and how much
memory does it take?
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from tests.benchmarks import probe
from tests.benchmarks.bench_memory import PeakMemory, role_of
from tests.benchmarks.commands import ENVIRONMENT, ROOT, make_checkpoint, run, tfresume
from tests.benchmarks.figures import Figure, spread

STATE_MB, STEPS, SAVE_EVERY = 1024, 500, 100
ROW_BYTES = 32
STEP_S = 0.05
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
    near = [
        [gaps[each] for each in range(step - 1, step + 3) if each in gaps]
        for step in gaps
        if step % SAVE_EVERY == 0
    ]
    return [max(max(each) - usual, 0.0) for each in near[1:]]


def _peak_mb(meta: Path, directory: Path) -> tuple[float, Path]:
    """The greatest resident memory of the worker of a run with saves, and the log of its steps."""
    directory.mkdir()
    log = directory / "probe"
    settings = (
        os.environ
        | ENVIRONMENT
        | {"PROBE_FILE": str(log), "PROBE_KIND": "embedding", "PROBE_ROWS": "64"}
    )
    words = tfresume(
        *(
            "resume",
            meta,
            "--output",
            directory / "out",
            "--workers",
            "1",
            "--steps",
            str(STEPS),
            "--max-to-keep",
            "1",
        ),
        *(
            "--save-steps",
            str(SAVE_EVERY),
            "--input",
            "tests.benchmarks.bench_saving:batches",
            "--json",
        ),
    )
    command = [sys.executable, *map(str, words)]
    with (
        subprocess.Popen(
            command, cwd=ROOT, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process,
        PeakMemory(psutil.Process(process.pid), role_of) as peak,
    ):
        code = process.wait(timeout=580)
    if code:
        raise RuntimeError(f"resume ended with {code}")
    return peak.peaks["worker"] / 2**20, log


def batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """Steps slow enough that a save of a gigabyte is over when the next one is due."""
    for batch in probe.batches(ctx):
        time.sleep(STEP_S)
        yield batch


def figures(directory: Path) -> list[Figure]:
    """Stall and memory of saves of one gigabyte, of a looked-up table: the step itself takes little
    memory beside the state.
    """
    meta = make_checkpoint(
        directory / "graph",
        "embedding",
        "optimizer=sgd",
        f"vocabulary={STATE_MB * 2**20 // ROW_BYTES}",
    )
    small = make_checkpoint(directory / "small", "embedding", "optimizer=sgd")
    (directory / "saver").mkdir()
    plain = [
        float(line)
        for line in run(
            "-c", SAVER, meta, directory / "saver", probe_file=directory / "unused"
        ).stdout.split()
    ]
    alone, _ = _peak_mb(small, directory / "alone")
    worker, log = _peak_mb(meta, directory / "ours")
    stalls = _stalls_s(log)
    behind = f"stall {spread(stalls, 's')}, Saver.save {spread(plain, 's')}"
    return [
        Figure(
            f"stall by a save of {STATE_MB} MiB over Saver.save's time",
            median(stalls) / median(plain),
            0.10,
            True,
            behind,
        ),
        Figure(
            "worker memory while saving over 2 x state + 256 MiB",
            (worker - alone) / (2 * STATE_MB + 256),
            1.0,
            True,
            f"{worker:.0f} MiB, with a state of 1 KiB {alone:.0f} MiB",
        ),
    ]
