"""Is a step as fast as without us? One worker against the bare TF1 loop, two against
MultiWorkerMirroredStrategy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.benchmarks import probe
from tests.benchmarks.commands import free_ports, make_checkpoint, run, run_together, tfresume
from tests.benchmarks.figures import Figure, spread

STEPS, ROUNDS = 400, 3
PAIRS = 8
"""Of one worker and the bare loop: medians of three rounds differed by 5 % from one call to the
next.
"""
ROWS = (("768", 0.98), ("16", 0.92))
"""Rows of a batch at which the bare loop takes about 10 ms and 1 ms a step on two cores, and the
bar; the figure shows what it took.
"""
UNITS = ((200, "0.8", 0.40), (600, "3.3", 0.40), (1870, "20", 0.50))
"""Units of a layer, MB of gradients, and the bar of two workers."""


def resume_words(
    meta: Path, output: Path, workers: int, steps: int = STEPS
) -> tuple[str | Path, ...]:
    """The command that trains ``steps`` steps and saves only at the end."""
    return tfresume(
        *("resume", meta, "--output", output, "--workers", str(workers), "--steps", str(steps)),
        *("--save-steps", "1000000", "--input", "tests.benchmarks.probe:batches", "--json"),
    )


def one_worker(directory: Path, rows: str, bar: float) -> Figure:
    """Steps per second of one worker over those of the bare loop."""
    meta = make_checkpoint(directory / "graph", "mnist")
    ours, bare = [], []
    for turn in range(PAIRS):
        log = directory / f"bare{turn}"
        run("-m", "tests.benchmarks.bare_tf1", meta, str(STEPS), probe_file=log, PROBE_ROWS=rows)
        bare.append(probe.step_seconds(log))
        log = directory / f"ours{turn}"
        run(*resume_words(meta, directory / f"out{turn}", 1), probe_file=log, PROBE_ROWS=rows)
        ours.append(probe.step_seconds(log))
    behind = f"ours {spread(ours, 'ms', 1e3)}, bare {spread(bare, 'ms', 1e3)}"
    return Figure(
        f"one worker, {rows} rows: steps/s over the bare TF1 loop's",
        median(bare) / median(ours),
        bar,
        False,
        behind,
    )


def two_workers(directory: Path, units: int, size: str, bar: float) -> Figure:
    """Step time of two workers over that of MultiWorkerMirroredStrategy on the same model."""
    meta = make_checkpoint(directory / "graph", "mnist", f"units={units}")
    ours, theirs = [], []
    for turn in range(ROUNDS):
        log, ports = directory / f"mirrored{turn}", ",".join(free_ports(2))
        words = [
            ("-m", "tests.benchmarks.mirrored", str(rank), ports, str(STEPS), str(units))
            for rank in range(2)
        ]
        run_together(words, probe_file=log)
        theirs.append(probe.step_seconds(log))
        log = directory / f"ours{turn}"
        run(*resume_words(meta, directory / f"out{turn}", 2), probe_file=log)
        ours.append(probe.step_seconds(log))
    behind = f"ours {spread(ours, 'ms', 1e3)}, theirs {spread(theirs, 'ms', 1e3)}"
    name = f"two workers, {size} MB: step time over MultiWorkerMirrored's"
    return Figure(name, median(ours) / median(theirs), bar, True, behind)


def figures(directory: Path) -> Iterator[Figure]:
    """All figures of this file."""
    for units, size, bar in UNITS:
        yield two_workers(directory / size, units, size, bar)
    for rows, bar in ROWS:
        yield one_worker(directory / rows, rows, bar)
