"""How good is one checkpoint, by tensors of its own graph over some batches?

Rule: the engine of ``infer``; of each fetched tensor the mean over its elements, and over the
batches weighted by their rows. Nothing is trained and nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.config import RunConfig
from orchestrator.decide.evaluating import averages
from orchestrator.driver.inference import ANYWHERE, NodeWish, fetch_plan, fetched
from orchestrator.driver.startup import step_of
from orchestrator.errors import ConfigError, UserCodeError
from orchestrator.store.checkpoints.at_step import at_step
from orchestrator.store.checkpoints.source import Source, named_source, resolve_source


@dataclass(frozen=True)
class Evaluated:
    """What a checkpoint was found to give.

    Attributes:
        checkpoint: URL of its prefix.
        step: its global step.
        metrics: tensor name (``loss:0``) to its mean; NaN where a batch gave NaN.
        rows: of all batches; 0 where a batch's arrays have no first dimension in common, and all
            batches counted the same.
        batches: how many there were.
        seconds: how long it took.
        weighted_by: ``rows`` or ``batches``: what a batch's mean counts by.
    """

    checkpoint: str
    step: int
    metrics: dict[str, float]
    rows: int
    batches: int
    seconds: float

    @property
    def weighted_by(self) -> str:
        """``rows``, or ``batches`` where rows aren't known."""
        return "rows" if self.rows else "batches"

    def as_dict(self) -> dict[str, object]:
        """Plain data for ``--json``."""
        names = ("checkpoint", "step", "metrics", "rows", "batches", "seconds", "weighted_by")
        return {name: getattr(self, name) for name in names}


def evaluate(
    config: RunConfig,
    fetches: Sequence[str] = (),
    *,
    step: int | None = None,
    batches: int = 0,
    place: NodeWish = ANYWHERE,
) -> Evaluated:
    """Evaluate one checkpoint.

    Args:
        config: ``source`` is a run's output or any other source; ``input``, ``array``, ``feed`` as
            ``resume`` has them; ``workers.count`` processes share the batches, on the cluster at
            ``address`` or a local Ray.
        fetches: tensors of numbers in any shape; none for the graph's losses, or what looks most
            like its prediction.
        step: the checkpoint of that global step; None for that of ``from_step``, or else the newest
            good one.
        batches: how many at most; 0 for all until the input ends. Arrays are gone through once, in
            their order.
        place: where on a cluster.

    Raises:
        ConfigError: two steps were named.
        SourceError: there is no checkpoint, or none of that step.
        GraphRefused: a tensor isn't there, has no feeds, or needs operations that weren't allowed.
        UserCodeError: the input function raised, gave no batch, or a batch doesn't fit.
        OrchestratorError: the checkpoint is bad, or no worker could be had.
    """
    if step is not None and config.from_step is not None:
        raise ConfigError("--step and --from-step name a checkpoint both", remedy="Leave one out")
    named = named_source(config) if step is None else at_step(config.source, step)
    source = resolve_source(named)
    return measured(source, config, fetches, batches=batches, place=place)


def measured(
    source: Source,
    config: RunConfig,
    fetches: Sequence[str],
    *,
    besides: Sequence[str] = (),
    batches: int,
    place: NodeWish,
) -> Evaluated:
    """What a checkpoint gives; arguments and errors as those of ``evaluate``.

    Args:
        besides: fetched too, whatever ``fetches`` are.
    """
    began_s = time.monotonic()
    plan = fetch_plan(source, config, fetches, losses_first=True, besides=besides)
    found = fetched(source, config, plan, batches=batches, means=True, place=place)
    if not found:
        raise UserCodeError(
            "the input gave no batch, so nothing was evaluated",
            remedy="Look at the function that --input names: it's called with rank, world_size, step and position 0",
        )
    outputs = [
        (each.rows, {name: float(value) for name, value in each.values.items()}) for each in found
    ]
    known = all(rows for rows, _ in outputs)
    assert source.prefix is not None
    return Evaluated(
        checkpoint=source.prefix.shown,
        step=step_of(source),
        metrics=averages(outputs),
        rows=sum(rows for rows, _ in outputs) if known else 0,
        batches=len(outputs),
        seconds=round(time.monotonic() - began_s, 3),
    )
