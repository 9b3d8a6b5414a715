"""What does the trained graph of a source give for some batches?

Rule: the same source, flags and inputs as ``resume``, nothing trained and nothing written but what
was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.config import RunConfig
from orchestrator.driver.inference import fetch_plan, fetched
from orchestrator.store.checkpoints.source import named_source, resolve_source


def infer(
    config: RunConfig, fetches: Sequence[str] = (), *, batches: int = 1
) -> list[dict[str, np.ndarray]]:
    """Fetch tensors for some batches.

    Args:
        config: ``source``, the inputs and what the graph needs count; ``workers.count`` processes
            share the batches.
        fetches: tensor names, ``NAME`` or ``NAME:PORT``; none for what looks most like the model's
            prediction.
        batches: how many at most; 0 for all until the input ends. Arrays are gone through once, in
            their order.

    Returns:
        For each batch, in the input's order, the values by tensor name, in the shapes and types
        that the graph gives.

    Raises:
        GraphRefused: a tensor isn't there, has no feeds, or needs operations that weren't allowed.
        UserCodeError: the input function raised, or a batch doesn't fit.
        OrchestratorError: the source is bad, or no worker could be had.
    """
    source = resolve_source(named_source(config))
    plan = fetch_plan(source, config, fetches)
    return [dict(each.values) for each in fetched(source, config, plan, batches=batches)]
