"""What does it cost to divide a table among two workers?

Rule: the same graph and batches with ``--shard-tables`` and without, in turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.benchmarks import probe
from tests.benchmarks.big_table import LOOKED_UP, WIDTH
from tests.benchmarks.commands import run, tfresume
from tests.benchmarks.figures import Figure, spread

ROWS, STEPS, ROUNDS = 200_000, 200, 3
"""Of the table: 51 MB, and as much of Adagrad's slot."""


def made(directory: Path, rows: int) -> Path:
    """The ``.meta`` of a run with a table of so many rows."""
    directory.mkdir(parents=True, exist_ok=True)
    words = ("-m", "tests.benchmarks.big_table", directory, str(rows))
    done = run(*words, probe_file=directory / "unused")
    return Path(done.stdout.strip().splitlines()[-1] + ".meta")


def step_s(meta: Path, directory: Path, tables: str) -> float:
    """Seconds of a step of two workers."""
    directory.mkdir()
    log = directory / "probe"
    words = tfresume(
        *("resume", meta, "--output", directory / "out", "--workers", "2", "--steps", str(STEPS)),
        *("--save-steps", "1000000", "--input", "tests.benchmarks.probe:batches", "--json"),
        *("--no-prove", "--shard-tables", tables),
    )
    run(*words, probe_file=log, PROBE_KIND="ids", PROBE_ROWS=str(ROWS))
    return probe.step_seconds(log)


def figures(directory: Path) -> Iterator[Figure]:
    """All figures of this file."""
    meta = made(directory / "graph", ROWS)
    whole, divided = [], []
    for turn in range(ROUNDS):
        whole.append(step_s(meta, directory / f"whole{turn}", "none"))
        divided.append(step_s(meta, directory / f"divided{turn}", "table"))
    yield Figure(
        f"two workers, {LOOKED_UP:,} rows x {WIDTH}: step time over that with the table whole",
        median(divided) / median(whole),
        2.0,
        True,
        f"divided {spread(divided, 'ms', 1e3)}, whole {spread(whole, 'ms', 1e3)}",
    )
