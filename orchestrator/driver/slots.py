"""How many batches does a step of this run have, how many workers can share them, and how are their
gradients put together?

Rule: the number is settled at the run's first start and recorded, so that another number of workers
computes the same steps; only the flag changes it. The same holds for how gradients are put
together. Workers beyond the number have nothing to compute and stand by. With ``nccl`` each worker
computes one batch, so there the number follows the group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.config import NONE, RunConfig
from orchestrator.decide.scaling import Sizes
from orchestrator.driver.exchange_choice import exchange_of
from orchestrator.errors import ConfigError
from orchestrator.graph.repetition.gradient_scale import GradientScale
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.run.run_record import RunRecord


@dataclass(frozen=True)
class Slots:
    """The slots of a run's steps.

    Attributes:
        count: batches in a step; None where each member of the group computes one, however many
            there are.
        first: the number at the run's first start.
        most: what a worker has to be ready for.
    """

    count: int | None
    first: int
    most: int


def slots_of(config: RunConfig, graph: WorkerGraph, record: RunRecord | None) -> Slots:
    """The slots of the run that ``config`` describes.

    Raises:
        ConfigError: more than one batch in a step was asked for, and the graph or the exchange has
            no room for it.
    """
    workers = config.workers
    if graph.group_refused:
        if config.batches_per_step not in (None, 1):
            raise ConfigError(
                f"a step of this graph has one batch: {graph.group_refused}",
                remedy="Leave --batches-per-step out, or give 1",
            )
        return Slots(1, 1, 1)
    first = _recorded(record) or config.batches_per_step or workers.count
    if exchange_of(config) == "nccl" and workers.largest > 1:
        if weight_of(config, record):
            raise ConfigError(
                "--weight-by has no meaning with --exchange nccl, which takes plain means",
                remedy="Leave it out, or use --exchange host",
            )
        if config.batches_per_step is not None:
            raise ConfigError(
                "--batches-per-step has no meaning with --exchange nccl, where each worker computes one batch of a step",
                remedy="Leave it out, or use --exchange host",
            )
        return Slots(None, first, workers.largest)
    count = config.batches_per_step or first
    return Slots(count, first, count)


def as_recorded(config: RunConfig, record: RunRecord | None) -> RunConfig:
    """The configuration to plan with: a run of several batches a step stays one on a single worker,
    whose graph must be cut then.
    """
    slots = config.batches_per_step or _recorded(record)
    return config.model_copy(
        update={
            "batches_per_step": slots,
            "gradient_scale": scale_of(config, record),
            "weight_by": weight_of(config, record),
            "shard_tables": config.shard_tables or list(record.shard_tables if record else ()),
            "table_copies": config.table_copies or _copies(config, record),
        }
    )


def scale_of(config: RunConfig, record: RunRecord | None) -> GradientScale:
    """How this run puts gradients together: as asked for, else as at its first start."""
    return config.gradient_scale or (record.gradient_scale if record is not None else "auto")


def weight_of(config: RunConfig, record: RunRecord | None) -> str | None:
    """The tensor that weights this run's batches: as asked for, else as at its first start."""
    return config.weight_by or (record.weight_by if record is not None else None)


def _copies(config: RunConfig, record: RunRecord | None) -> int | None:
    """How many workers hold each row since the first start, where tables are still divided."""
    return None if record is None or NONE in config.shard_tables else record.table_copies


def _recorded(record: RunRecord | None) -> int | None:
    if record is None or record.batches_per_step is not None:
        return record.batches_per_step if record is not None else None
    workers = record.config.get("workers")  # of a version in which every worker computed one batch
    count = workers.get("count") if isinstance(workers, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def fitting(sizes: Sizes, slots: int | None) -> Sizes:
    """Sizes of a group in which every member has a slot; those who were asked for beyond that stand
    by.
    """
    if slots is None or sizes.largest <= slots:
        return sizes
    count = min(sizes.count, slots)
    return replace(
        sizes,
        count=count,
        smallest=min(sizes.smallest, slots),
        largest=slots,
        standby=sizes.standby + sizes.count - count,
    )


def surplus_note(config: RunConfig, slots: Slots) -> str:
    """A line about workers that have no slot; empty where all have one."""
    if slots.count is None or config.workers.count <= slots.count:
        return ""
    idle = config.workers.count - slots.count
    return (
        f"a step of this run has {slots.count} batch{'es' if slots.count > 1 else ''}, so {idle} of {config.workers.count} workers "
        f"stand{'s' if idle == 1 else ''} by; --batches-per-step {config.workers.count} would give all of them work, and change what a "
        "step computes"
    )
