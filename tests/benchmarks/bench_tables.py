"""What does it cost to divide a table among workers, what does each read and hold of it, and what does
a save of changed rows move?

Rule: the same graph and batches with ``--shard-tables`` and without, in turns. A rank starts from a
store over HTTP in a process of its own, by the parts that a worker has; so does one whose memory is
looked at over steps and saves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from orchestrator.journal.parsing import parse_all
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.store.objects.layout import CHANGED_SUFFIX
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from orchestrator.store.transfer.upload import upload
from tests.benchmarks import probe
from tests.benchmarks.big_table import LOOKED_UP, WIDTH
from tests.benchmarks.commands import run, run_together, tfresume
from tests.benchmarks.figures import Figure, spread
from tests.servers.programs import running
from tests.training.one_block import PHASES
from tests.training.tall_tables import ROW_BYTES, tall_checkpoint

ROWS, STEPS, ROUNDS = 200_000, 200, 3
"""Of the table: 51 MB, and as much of Adagrad's slot."""
MIB = 1 << 20
START_BYTES, BLOCK_BYTES = 2048 * MIB, 512 * MIB
"""Of a table and its slot together: what a run starts from, and what one worker holds of it."""
BESIDE_BYTES, FIRST_BYTES = 64 * MIB, 64 * MIB
"""That a worker may take beside its block; and for what is done for the first time (22 MiB with a
table of a few rows: code, threads) and what the C library keeps of portions for each thread.
"""
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


def _starts(directory: Path) -> Iterator[Figure]:
    """What the ranks of two groups read of a checkpoint in a store."""
    source, root = directory / "source", directory / "server"
    for made_now in (source, root):
        made_now.mkdir()
    prefix = tall_checkpoint(source, START_BYTES // ROW_BYTES)
    with running("gcs", root) as server:
        where = open_location(server.url("tall"), **server.options())
        upload(sorted(source.iterdir()), where)
        for ranks in (2, 3):
            words = ("-m", "tests.benchmarks.rank_start", f"{prefix}.meta")
            about = (f"{where.url}/{prefix.name}.meta",)
            told = [
                json.loads(one.stdout.splitlines()[-1])
                for one in run_together(
                    [(*words, *about, str(rank), str(ranks)) for rank in range(ranks)],
                    probe_file=directory / "unused",
                    timeout_s=900,
                    **server.environment(),
                )
            ]
            each = [one["read"] / (START_BYTES / ranks) for one in told]
            beside = [(one["over"] - one["block"]) / MIB for one in told]
            yield Figure(
                f"start of {ranks} ranks from 2 GiB over HTTP: bytes read over a rank's rows",
                max(each),
                1.01,
                True,
                f"in {spread([one['seconds'] for one in told], 's')}, beside the block {spread(beside, 'MiB')}",
            )


def _blocks(directory: Path) -> Iterator[Figure]:
    """The most that a worker takes beside its block, from its start over steps, saves and reading."""
    for kind in ("ref", "resource"):
        where = directory / kind
        where.mkdir()
        prefix = tall_checkpoint(where, BLOCK_BYTES // ROW_BYTES, kind)
        words = ("-m", "tests.training.one_block", prefix, where / "out", "0", "live")
        done = run(*words, probe_file=directory / "unused", timeout_s=900)
        told = json.loads(done.stdout.splitlines()[-1])
        beside = {name: (told[name] - BLOCK_BYTES) / MIB for name in PHASES}
        yield Figure(
            f"512 MiB of rows of a {kind} variable: MiB beside them, over 64 of the beginning",
            max(beside.values()) - FIRST_BYTES / MIB,
            BESIDE_BYTES / MIB,
            True,
            ", ".join(f"{name} {size:.0f}" for name, size in beside.items()),
        )


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
    yield from _starts(directory)
    yield from _blocks(directory)
    yield Figure(
        f"two workers, {LOOKED_UP:,} rows x {WIDTH}: step time over that with the table whole",
        median(divided) / median(whole),
        2.0,
        True,
        f"divided {spread(divided, 'ms', 1e3)}, whole {spread(whole, 'ms', 1e3)}",
    )
