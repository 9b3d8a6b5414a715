"""The input of the runs that the chaos tests disturb: batch n is the same whoever serves it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

STEP_S = float(os.environ.get("TFRESUME_TEST_STEP_S", "0.01"))


def batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    number = ctx.position + ctx.rank
    while True:
        rng = np.random.default_rng(1000 + number)
        x = rng.normal(size=(8, 6)).astype(np.float32)
        time.sleep(STEP_S)  # long enough steps that a test can hit the middle of a run
        yield {"x:0": x, "y:0": np.argmax(x[:, :3] + 0.1 * rng.normal(size=(8, 3)), axis=1)}
        number += ctx.world_size
