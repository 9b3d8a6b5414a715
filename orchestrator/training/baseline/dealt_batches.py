"""Which runs are compared, and which batches does each step of them take?

Rule: as the run's workers are given them, whatever their number; an input function that gives one
worker alone something else is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.config import RunConfig
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.inputs.feeds import Batch, FeedContext, open_batches
from orchestrator.training.step.dealing import Dealing

Steps = Sequence[Sequence[Batch]]
"""By step, the batches in the order of their numbers: a slot after the other, for each run that
takes some of its own.
"""


@dataclass(frozen=True)
class ComparisonTask:
    """What is to be compared.

    Attributes:
        options: as the workers had them; ``batches_per_step`` is the number of slots.
        prefix: local prefix of the checkpoint that all runs started from.
        world_size, steps, start_step: of the group's run.
        whole: local prefix of what the group had after ``steps``.
        halves: the same after a save and a restart in the middle; empty where that wasn't done.
        joint: whether the batches can be joined at all; not where the graph's own pipeline makes
            them.
        tolerance: relative difference from which on a slot's own batches are asked what they make
            of a variable.
        redraw: how far other random numbers move each variable is wanted.
    """

    graph: WorkerGraph
    options: TrainingOptions
    config: RunConfig
    prefix: str
    world_size: int
    steps: int
    start_step: int
    whole: str
    halves: str = ""
    joint: bool = True
    tolerance: float = 0.0
    redraw: bool = False


def dealt(task: ComparisonTask, world_size: int) -> Steps:
    """The batches of every step, as that many workers are given them."""
    count = task.options.batches_per_step * task.graph.batches_per_slot
    dealing = Dealing(world_size, count)
    streams = [
        open_batches(task.config, task.graph, FeedContext(rank, world_size, task.start_step, 0))
        for rank in range(world_size)
    ]
    found: list[list[Batch]] = []
    for number in range(task.steps):
        position = number * count
        step: dict[int, Batch] = {}
        for rank, stream in enumerate(streams):
            turns = dealing.batches(rank, position)
            step.update(zip(turns, stream.take(len(turns)), strict=True))
            stream.applied()
        found.append([step[position + place] for place in range(count)])
    for stream in streams:
        stream.close()
    return found


def stray(task: ComparisonTask, steps: Steps) -> str:
    """Which batch one worker alone is given differently."""
    if task.world_size == 1:
        return ""
    for number, (ours, theirs) in enumerate(zip(steps, dealt(task, 1), strict=True)):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            for name in sorted({*one, *other}):
                if name not in one or name not in other or not _equal(one[name], other[name]):
                    return f"{name} of batch {number * len(ours) + place}"
    return ""


def _equal(one: Any, other: Any) -> bool:
    first, second = np.asarray(one), np.asarray(other)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return (
        first.tolist() == second.tolist()
        if first.dtype.kind == "O"
        else first.tobytes() == second.tobytes()
    )
