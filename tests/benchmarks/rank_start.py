"""What does one rank read, and take of memory, when it starts from divided tables in a store? A
process of its own: ``python -m tests.benchmarks.rank_start META URL RANK RANKS`` prints one line of
JSON.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any, cast

from orchestrator.config import RunConfig
from orchestrator.graph.tables.sharding import find_shardable, shard_tables
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.location import Location
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.workers.orders import CheckpointFiles, Setup
from orchestrator.workers.runtime import RealTools
from tests.store.shard_process import peak_of
from tests.training.ranks import worker_graph


def counted() -> list[int]:
    """Sizes of what is read of data files from now on."""
    real, read = Location.read_bytes, []

    def counting(location: Any, start: int = 0, end: int | None = None) -> bytes:
        data = real(location, start, end)
        if ".data-" in location.url:
            read.append(len(data))
        return data

    Location.read_bytes = counting  # type: ignore[method-assign,assignment]
    return read


def main(meta: str, url: str, rank: int, ranks: int) -> None:
    """Start as a worker that joins does, and tell."""
    from pathlib import Path

    from orchestrator.training.trainer import Trainer

    whole = worker_graph(Path(meta.removesuffix(".meta")), workers=ranks)
    graph = shard_tables(whole, find_shardable(whole).tables)
    trainer = Trainer(graph, TrainingOptions(batches_per_step=ranks))
    trainer._group.session  # noqa: B018 - TensorFlow's own beginnings don't count
    tools = RealTools(
        cast(Setup, SimpleNamespace(start=None, graph=graph, config=RunConfig(source=url)))
    )
    tools._trainer = trainer
    found = CheckpointFiles(0, 0, url, tuple(resolve_source(url).files))
    read = counted()

    def start() -> None:
        trainer.assign(tools.checkpoint_state(found, (rank, ranks)))

    began_s = time.perf_counter()
    over = peak_of(start)
    told = {"read": sum(read), "over": over, "block": trainer.size_bytes}
    sys.stdout.write(json.dumps({**told, "seconds": time.perf_counter() - began_s}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
