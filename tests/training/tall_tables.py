"""Checkpoints of graphs with one tall table, as large as wanted, made without holding one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from orchestrator.store.bundle.tensor_writer import TensorWriter
from tests import forked

WIDTH = 64
ROW_BYTES = 2 * WIDTH * 4
"""Of the table and of Adagrad's slot."""
AT_ONCE = 1 << 14


def tall_checkpoint(directory: Path, rows: int, kind: str = "ref") -> Path:
    """The prefix of a checkpoint of ``sharded_graphs.tall`` with so many rows."""
    name = str(rows) if kind == "ref" else f"{rows}-{kind}"
    done = forked.run("tests.training.sharded_graphs", directory, name)
    assert done.returncode == 0, done.stderr[-4000:]
    prefix = directory / "tall-0"
    (directory / "tall.meta").rename(f"{prefix}.meta")
    with TensorWriter(prefix) as writer:
        writer.add("global_step", "int64", (), [np.int64(0).tobytes()])
        writer.add("table", "float32", (rows, WIDTH), _rows(rows, 0.5))
        writer.add("table/Adagrad", "float32", (rows, WIDTH), _rows(rows, 2.5))
        writer.finish()
    return prefix


def _rows(rows: int, least: float) -> Iterator[bytes]:
    """Numbers that tell their row, from ``least`` up to one more."""
    for start in range(0, rows, AT_ONCE):
        numbers = np.arange(start, min(start + AT_ONCE, rows)) % 65521 / 65536 + least
        yield np.repeat(numbers.astype(np.float32), WIDTH).tobytes()


def ids_of(number: int, rows: int, count: int = 64) -> dict[str, np.ndarray]:
    """The ids of a batch, over all of the table."""
    return {"ids:0": np.random.default_rng(number).integers(0, rows, count)}
