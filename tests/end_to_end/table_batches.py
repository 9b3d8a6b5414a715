"""Batches of ids for graphs with tables: batch n is the same whoever serves it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.training.sharded_graphs import batch


def batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """For runs that nothing shall happen to."""
    number = ctx.position + ctx.rank
    while True:
        yield batch(number)
        number += ctx.world_size


def slow_batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """The same, so slowly that a test can hit the middle of a run."""
    for each in batches(ctx):
        time.sleep(0.06)
        yield each
