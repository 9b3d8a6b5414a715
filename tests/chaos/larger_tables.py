"""The tables of a run that no worker could hold, and the input of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.training.tall_tables import ROW_BYTES, ids_of

MIB = 1 << 20
LIMIT_BYTES = 576 * MIB
"""That a worker may take beside what TensorFlow and the project take before the graph is there."""
WORKERS = 6
ROWS = 4 * LIMIT_BYTES // ROW_BYTES
"""Table and slot together are four times that: each worker holds two thirds of what it may have, and
couldn't hold its rows twice.
"""


def batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """Batch n is the same whoever serves it, and touches rows of every worker."""
    number = ctx.position + ctx.rank
    while True:
        time.sleep(0.02)
        yield ids_of(number, ROWS, 600)
        number += ctx.world_size
