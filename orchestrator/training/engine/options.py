"""What is a worker told about its group and about how to train?

Rule: plain data that pickles; no TensorFlow, so that the driver may build these too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.graph.repetition.gradient_scale import GradientScale

Exchange = Literal["host", "nccl"]


@dataclass(frozen=True)
class GroupSpec:
    """One membership of the worker group, as one of its members sees it.

    Attributes:
        generation: counted from 1, never reused.
        rank: this worker's place, 0 to ``world_size - 1``.
        world_size: members of the group.
        addresses: ``Trainer.address`` of every rank, in the order of ranks; ignored where
            ``world_size`` is 1.
        position: batches that the whole group consumed before this generation's first step.
    """

    generation: int
    rank: int
    world_size: int
    addresses: tuple[str, ...] = ()
    position: int = 0


@dataclass(frozen=True)
class TrainingOptions:
    """What is the same for all generations of a worker.

    Attributes:
        exchange: ``host`` works everywhere; ``nccl`` needs a GPU of its own for each rank and runs
            TensorFlow's own collectives.
        batches_per_step: slots of a step; with 1 the graph trains alone and nothing is ever
            exchanged.
        gradient_scale: which gradients the group adds up instead of taking their mean.
        seed: keys every random operation of the graph, together with the number of the batch.
        deterministic: one thread in each of TensorFlow's pools, deterministic kernels and the same
            kernels on every CPU.
        max_world_size: the largest group that will be formed with ``nccl``.
        watch: tensors to show besides the graph's losses.
        intra_threads: threads within one operation; None leaves the choice to TensorFlow.
        inter_threads: operations that run side by side; None leaves the choice to TensorFlow.
        gpu: use the GPUs that this process can see; else none is touched.
        gpu_memory_fraction: at most this part of a GPU's memory, where workers share one; None
            grows on demand without a limit.
        reserved_bytes: memory that the run reserves for each worker; None where it names none.
        host: the name or address by which the other workers reach this one.
        changed_rows: note which rows of divided tables each step writes, for saves that hold only
            those.
        summary_steps: scalar summaries are computed every so many steps; 0 never.
        import_modules, load_op_library: Python modules and operation libraries to load before the
            graph.
        py_func: token of a ``py_func`` to ``module:function``.
    """

    exchange: Exchange = "host"
    batches_per_step: int = 1
    gradient_scale: GradientScale = "auto"
    seed: int = 0
    deterministic: bool = False
    max_world_size: int = 1
    watch: tuple[str, ...] = ()
    intra_threads: int | None = None
    inter_threads: int | None = None
    gpu: bool = False
    gpu_memory_fraction: float | None = None
    reserved_bytes: int | None = None
    host: str = "127.0.0.1"
    changed_rows: bool = False
    summary_steps: int = 10
    import_modules: tuple[str, ...] = ()
    load_op_library: tuple[str, ...] = ()
    py_func: Mapping[str, str] = field(default_factory=dict)
