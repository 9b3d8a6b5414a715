"""Is a step as fast as without us? One worker against the bare TF1 loop, two against MultiWorkerMirroredStrategy."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from tests.benchmarks import probe
from tests.benchmarks.commands import free_ports, make_checkpoint, run, run_together, tfresume
from tests.benchmarks.figures import Figure, spread

STEPS, ROUNDS = 400, 3
PAIRS = 8
"""Of one worker and the bare loop: medians of three rounds differed by 5 % from one call to the next."""
ROWS = "768"
"""Rows of a batch at which the bare loop takes about 10 ms a step on two cores; the figure shows what it took."""


def resume_words(meta: Path, output: Path, workers: int, steps: int = STEPS) -> tuple[str | Path, ...]:
    """The command that trains ``steps`` steps and saves only at the end."""
    return tfresume(
        *("resume", meta, "--output", output, "--workers", str(workers), "--steps", str(steps)),
        *("--save-steps", "1000000", "--input", "tests.benchmarks.probe:batches", "--json"),
    )


def one_worker(directory: Path) -> Figure:
    """Steps per second of one worker over those of the bare loop, at about 10 ms a step."""
    meta = make_checkpoint(directory / "graph", "mnist")
    ours, bare = [], []
    for turn in range(PAIRS):
        log = directory / f"bare{turn}"
        run("-m", "tests.benchmarks.bare_tf1", meta, str(STEPS), probe_file=log, PROBE_ROWS=ROWS)
        bare.append(probe.step_seconds(log))
        log = directory / f"ours{turn}"
        run(*resume_words(meta, directory / f"out{turn}", 1), probe_file=log, PROBE_ROWS=ROWS)
        ours.append(probe.step_seconds(log))
    behind = f"ours {spread(ours, 'ms', 1e3)}, bare {spread(bare, 'ms', 1e3)}"
    return Figure("one worker: steps/s over the bare TF1 loop's", median(bare) / median(ours), 0.97, False, behind)


def two_workers(directory: Path, units: int) -> Figure:
    """Step time of two workers over that of MultiWorkerMirroredStrategy on the same model."""
    meta = make_checkpoint(directory / "graph", "mnist", f"units={units}")
    ours, theirs = [], []
    for turn in range(ROUNDS):
        log, ports = directory / f"mirrored{turn}", ",".join(free_ports(2))
        words = [("-m", "tests.benchmarks.mirrored", str(rank), ports, str(STEPS), str(units)) for rank in range(2)]
        run_together(words, probe_file=log)
        theirs.append(probe.step_seconds(log))
        log = directory / f"ours{turn}"
        run(*resume_words(meta, directory / f"out{turn}", 2), probe_file=log)
        ours.append(probe.step_seconds(log))
    behind = f"ours {spread(ours, 'ms', 1e3)}, theirs {spread(theirs, 'ms', 1e3)}"
    name = f"two workers, {units} units: step time over MultiWorkerMirrored's"
    return Figure(name, median(ours) / median(theirs), 1.0, True, behind)


def figures(directory: Path) -> list[Figure]:
    """All figures of this file."""
    return [one_worker(directory / "one"), two_workers(directory / "small", 256), two_workers(directory / "large", 1024)]
