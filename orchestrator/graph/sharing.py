"""What would it change for a run if each worker held some rows of every table?

Rule: told of the number of workers that the configuration asks for, and of the memory that it
reserves for each, or else of what there is here. Nothing is refused for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.graph.tables.sharding import find_shardable
from orchestrator.graph.tables.shares import Shares, shares
from orchestrator.graph.variables.memory import FreeMemory
from orchestrator.graph.worker_graph import WorkerGraph


@dataclass(frozen=True)
class Sharing:
    """A run with its tables whole, and divided.

    Attributes:
        workers: as many as the run has at most.
        whole_bytes, divided_bytes: state of a worker, of the one that has most.
        memory_bytes: what a worker may have; None where that isn't known.
        enough_workers: how many it takes until none needs more; None where no number is enough, or
            ``memory_bytes`` isn't known.
    """

    shares: Shares
    workers: int
    whole_bytes: int
    divided_bytes: int
    memory_bytes: int | None
    enough_workers: int | None

    def as_dict(self) -> dict[str, Any]:
        """As ``check --json`` prints it."""
        return {
            **self.shares.as_dict(),
            "workers": self.workers,
            "whole_bytes": self.whole_bytes,
            "divided_bytes": self.divided_bytes,
            "memory_bytes": self.memory_bytes,
            "enough_workers": self.enough_workers,
        }


def sharing(graph: WorkerGraph, config: RunConfig, memory: FreeMemory | None) -> Sharing:
    """What dividing the tables would change."""
    found = shares(find_shardable(graph), graph.variables)
    workers, gpu = config.workers.largest, config.workers.gpus > 0
    each = config.workers.memory_bytes
    if each is None and memory is not None:
        each = memory.host_bytes // max(1, memory.workers_per_node)
    enough = None if each is None else found.smallest_group(each, gpu=gpu)
    return Sharing(
        *(found, workers, found.of_worker(1), found.of_worker(workers), each, enough),
    )
