"""What does it cost to divide a table among workers, and what does each read and hold of it?

Rule: the same graph and batches with ``--shard-tables`` and without, in turns. A rank starts from a
store over HTTP in a process of its own, by the parts that a worker has; so does one whose memory is
looked at over steps and saves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from orchestrator.store.objects.location import open_location
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


def figures(directory: Path) -> Iterator[Figure]:
    """All figures of this file."""
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
