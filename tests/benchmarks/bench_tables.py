"""What does it cost to divide a table among two workers, and what does a save of changed rows move?

Rule: the same graph and batches with ``--shard-tables`` and without, in turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from orchestrator.journal.parsing import parse_all
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.store.objects.layout import CHANGED_SUFFIX
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from tests.benchmarks import probe
from tests.benchmarks.big_table import LOOKED_UP, WIDTH
from tests.benchmarks.commands import run, tfresume
from tests.benchmarks.figures import Figure, spread

ROWS, STEPS, ROUNDS = 200_000, 200, 3
"""Of the table: 51 MB, and as much of Adagrad's slot."""
TALL = 2 * LOOKED_UP * 20
"""Rows of which two workers' batches touch 5 %."""


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


def saves(meta: Path, directory: Path) -> list[SaveCommitted]:
    """What a run of two workers saves, of changed rows where that's no full one."""
    directory.mkdir()
    words = tfresume(
        *("resume", meta, "--output", directory / "out", "--workers", "2", "--steps", "60"),
        *("--save-steps", "10", "--save-policy", "wait", "--shard-tables", "table", "--json"),
        *("--save-changed-rows", "--no-prove", "--input", "tests.benchmarks.probe:batches"),
    )
    run(*words, probe_file=directory / "probe", PROBE_KIND="ids", PROBE_ROWS=str(TALL))
    told = parse_all(read_journal(open_location(str(directory / "out"))))
    return [event for event in told if isinstance(event, SaveCommitted)]


def of_changed_rows(meta: Path, directory: Path) -> Figure:
    """What a save of changed rows moves."""
    found = saves(meta, directory)
    sizes: dict[bool, list[float]] = {False: [], True: []}
    stalls: dict[bool, list[float]] = {False: [], True: []}
    for each in found:
        changed = each.checkpoint.endswith(CHANGED_SUFFIX)
        sizes[changed].append(each.size_bytes or 0.0)
        stalls[changed].append(each.stall_s or 0.0)
    return Figure(
        "5 % of the rows touched: bytes of a save of changed rows over those of a full one",
        median(sizes[True]) / median(sizes[False]),
        0.10,
        True,
        f"changed {spread(sizes[True], 'MB', 1e-6)}, full {spread(sizes[False], 'MB', 1e-6)}; held training up "
        f"{spread(stalls[True], 'ms', 1e3)} and {spread(stalls[False], 'ms', 1e3)}",
    )


def figures(directory: Path) -> Iterator[Figure]:
    """All figures of this file."""
    yield of_changed_rows(made(directory / "tall", TALL), directory / "changed")
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
