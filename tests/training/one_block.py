"""What does a worker take of memory beside its block of a divided table? A process of its own:
``python -m tests.training.one_block PREFIX OUTPUT LIMIT_MB COPY`` prints one line of JSON.

It reads its block, takes steps, saves and reads what it has saved, by the parts that a worker has.
LIMIT_MB is what the process may take beside what it had before (0 for no limit), COPY whether a save
copies its rows (``copy``) or not (``live``), or finds out by itself whether there's room (``asked``).
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from orchestrator.config import RunConfig
from orchestrator.decide import events as ev
from orchestrator.decide.save_copy import MemoryLeft
from orchestrator.graph.tables.sharding import find_shardable, shard_tables
from orchestrator.store.bundle.index_writer import index_bytes
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.location import open_location
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.state.state import share_of
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.orders import CheckpointFiles, GrantOrder, Setup
from orchestrator.workers.runtime import RealTools
from orchestrator.workers.saver import SaveJob, Saver
from tests.store.shard_process import peak_of, resident
from tests.training.ranks import worker_graph
from tests.training.tall_tables import ids_of

STEPS = 5
PHASES = ("start", "steps", "save", "restore", "steps again", "save again", "and again")
"""What is told: the most resident memory in each, over what there was before the first."""
MIB = 1 << 20


def limit_to(more_bytes: int) -> None:
    """From now on this process may take so much more, and no more."""
    data = resident("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (data + more_bytes, data + more_bytes))


def is_held_to(more_bytes: int) -> bool:
    """Whether taking little more than that fails: what was freed since the limit was set is there
    again, some 100 KiB as a rule and a thread's stack at most.
    """
    try:
        return not np.zeros(more_bytes + 16 * MIB, np.uint8).size
    except MemoryError:
        return True


class Worker:
    """One worker's parts, alone in its group."""

    def __init__(self, prefix: str, output: str) -> None:
        from orchestrator.training.trainer import Trainer

        whole = worker_graph(Path(prefix), workers=1)
        self.graph = shard_tables(whole, find_shardable(whole).tables)
        self.rows = self.graph.tables.parts[0].rows
        options = TrainingOptions(batches_per_step=1, deterministic=True)
        self.trainer = Trainer(self.graph, options)
        output_at, config = open_location(output), RunConfig(source=prefix)
        setup = SimpleNamespace(
            graph=self.graph, name="m", output=output_at, start=None, config=config
        )
        self.tools = RealTools(cast(Setup, setup))
        self.tools._trainer = self.trainer
        self.output, self.generation = output_at, 0

    def read(self, prefix: str) -> None:
        """Go on from a checkpoint, as a worker does that joins."""
        files = tuple(resolve_source(f"{prefix}.meta").files)
        found = CheckpointFiles(0, 0, prefix, files)
        state = self.tools.checkpoint_state(found, (0, 1))
        self.generation += 1
        self.trainer.join(GroupSpec(self.generation, 0, 1, (self.trainer.address,)))
        self.trainer.assign(state)
        self.trainer.meet()

    def step(self) -> None:
        """Some steps."""
        for number in range(STEPS):
            self.trainer.step([ids_of(number, self.rows, 4096)])

    def save(self) -> str:
        """Save as a worker does; the prefix."""
        buffer = EventBuffer()
        saver = Saver("w0", self.tools, buffer)
        grant = GrantOrder(1, 9, (5,), "w0", "a", 15, save=(1, 1), parts=1)
        assert saver.begin(grant, 0, 5, 15)
        state = self.trainer.state_for_save()
        saver.submit(SaveJob(state, share_of(state)[0], 15, grant, {}, 0.0))
        saver.close()
        (told,) = buffer.poll(0, 0.0)[1]
        assert isinstance(told, ev.SaveWritten), told
        assert told.part is not None
        where = self.output.child(told.directory, told.prefix)
        Path(f"{where.path}.index").write_bytes(index_bytes([told.part.report]))
        return where.path


def main() -> None:
    """Do it and tell."""
    prefix, output, limit_mb, copy = sys.argv[1:]
    worker = Worker(prefix, output)
    worker.trainer._group.session  # noqa: B018 - TensorFlow's own beginnings, before anything counts
    from orchestrator.training.state import saving

    if copy != "asked":
        left = MemoryLeft(1 << 50 if copy == "copy" else 0, None)
        saving.__dict__["memory_left"] = lambda reserved, sharers: left
    limit = int(limit_mb) * MIB
    told: dict[str, float] = {"base": resident("VmRSS"), "data": resident("VmData")}
    if limit:
        limit_to(limit)
        told["held"] = is_held_to(limit)
    saved: list[str] = []
    doing: list[Callable[[], Any]] = [
        lambda: worker.read(prefix),
        worker.step,
        lambda: saved.append(worker.save()),
        lambda: worker.read(saved[0]),
        worker.step,
        lambda: saved.append(worker.save()),
        lambda: saved.append(worker.save()),
    ]
    for name, do in zip(PHASES, doing, strict=True):
        before, began_s = resident("VmRSS"), time.perf_counter()
        told[name] = before + peak_of(do) - told["base"]
        told[f"{name}, seconds"] = round(time.perf_counter() - began_s, 3)
    told["data then"] = resident("VmData")
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
