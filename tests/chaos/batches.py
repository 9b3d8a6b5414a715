"""The input of the runs that the chaos tests disturb: batch n is the same whoever serves it, and
however fast.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """Steps long enough that a test can hit the middle of a run."""
    return _batches(ctx, 0.01)


def slow_batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """For runs that have to last."""
    return _batches(ctx, 0.05)


def fast_batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """For runs that nothing shall happen to."""
    return _batches(ctx, 0.0)


def _batches(ctx: Any, step_s: float) -> Iterator[Mapping[str, np.ndarray]]:
    number = ctx.position + ctx.rank
    while True:
        rng = np.random.default_rng(1000 + number)
        x = rng.normal(size=(8, 6)).astype(np.float32)
        if step_s:
            time.sleep(step_s)
        yield {"x:0": x, "y:0": np.argmax(x[:, :3] + 0.1 * rng.normal(size=(8, 3)), axis=1)}
        number += ctx.world_size
