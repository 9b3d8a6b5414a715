"""When does each step happen? An input function that writes down the time of every batch that it is
asked for.

Rule: the product is timed from outside, by the code that a user would write. Environment:
``PROBE_FILE`` (lines of ``unix-seconds rank step pid first``), ``PROBE_KIND`` and ``PROBE_ROWS``
choose the batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.big_table import id_feeds
from tests.graphs.feeds import FEEDS, xy_feeds


@dataclass(frozen=True)
class Moment:
    """One batch asked for: unix seconds, rank, step it serves, process, and whether it's the first
    of a generation (1) or not (0).
    """

    at: float
    rank: int
    step: int
    pid: int
    first: int


def batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """The same batch for ever, so that making it costs nothing."""
    rows = int(os.environ.get("PROBE_ROWS", "64"))
    kind = os.environ.get("PROBE_KIND", "mnist")
    feeds = id_feeds if kind == "ids" else FEEDS.get(kind, xy_feeds)
    batch = feeds(ctx.rank, rows)
    with Path(os.environ["PROBE_FILE"]).open("a", buffering=1) as log:
        for step in range(ctx.step, 10**9):
            log.write(
                f"{time.time():.6f} {ctx.rank} {step} {os.getpid()} {int(step == ctx.step)}\n"
            )
            yield batch


def moments(path: Path) -> list[Moment]:
    """All that the probe wrote, in order of time."""
    rows = (line.split() for line in path.read_text().splitlines())
    return sorted(
        (Moment(float(at), *map(int, numbers)) for at, *numbers in rows), key=lambda m: m.at
    )


def peak_bytes() -> int:
    """The most resident memory that this program had so far. What ``getrusage`` tells begins with
    its parent's.
    """
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) * 1024


def step_seconds(path: Path, *, rank: int = 0, skip: int = 30) -> float:
    """Median seconds between two batches of ``rank`` after the first ``skip`` ones."""
    times = [moment.at for moment in moments(path) if moment.rank == rank][skip:]
    return float(np.median(np.diff(times)))
