"""What does one worker take of memory while it saves its rows of a large table? A process of its
own: ``python -m tests.workers.part_process DIRECTORY rank rankS ROWS COLUMNS`` prints one line of
JSON.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from orchestrator.decide import events as ev
from orchestrator.graph.worker_graph import Variable, WorkerGraph
from orchestrator.graph.worker_tables import ShardedPart, ShardedTables
from orchestrator.store.objects.location import open_location
from orchestrator.training.state.state import State, share_of
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.orders import GrantOrder, Setup
from orchestrator.workers.runtime import RealTools
from orchestrator.workers.saver import SaveJob, Saver
from tests.store.shard_process import peak_of, rows_of


def graph_of(rows: int, columns: int) -> WorkerGraph:
    """A table and a counter."""
    part = ShardedPart("emb", "emb", ("emb",), rows, (columns,), "first:0", "count:0")
    variables = (
        Variable("emb", "ref", "float32", (None, columns), key="emb", trainable=True),
        Variable("global_step", "ref", "int64", (), key="global_step"),
    )
    return WorkerGraph(b"", b"graph", (), (), variables, tables=ShardedTables((part,)))


def save(url: str, rank: int, ranks: int, rows: int, columns: int) -> dict[str, Any]:
    """Save this rank's rows as a worker does, from the copy of its state."""
    graph = graph_of(rows, columns)
    share = rows_of(rows, columns, *graph.tables.parts[0].block(rank, ranks))
    state = State(5, {"emb": share, "global_step": np.int64(5)}, share=(rank, ranks))  # type: ignore[dict-item]
    setup = SimpleNamespace(graph=graph, name="m", output=open_location(url), start=None)
    buffer = EventBuffer()
    saver = Saver(f"w{rank}", RealTools(cast(Setup, setup)), buffer)
    grant = GrantOrder(1, 9, (5,), "w0", "a0001-g0001", 15, save=(1, 1), parts=ranks)

    def work() -> None:
        assert saver.begin(grant, rank, 5, 15)
        saver.submit(SaveJob(state, share_of(state)[0], 15, grant, {}, 0.0))
        saver.close()

    over = peak_of(work)
    planted = peak_of(lambda: share.copy())
    (told,) = buffer.poll(0, 0.0)[1]
    assert isinstance(told, ev.SaveWritten | ev.SaveChecked), told
    assert told.part is not None
    sent = sum(record.size_bytes for record in told.part.files)
    return {"over": over, "planted": planted, "share": share.nbytes, "sent": sent}


def main() -> None:
    """Do it and tell."""
    directory, *numbers = sys.argv[1:]
    sys.stdout.write(json.dumps(save(directory, *map(int, numbers))))


if __name__ == "__main__":
    main()
