"""A generation's batches begin at its rank's share of what the graph makes itself."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.errors import EndOfData
from orchestrator.graph.worker_graph import InputPort, WorkerGraph
from orchestrator.training.inputs.feeds import FeedContext, open_batches
from orchestrator.training.inputs.rank_share import Share


class NumberedPipeline:
    """Stands for a Trainer whose graph makes batches that are numbers."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.next, self.stride = 0, 1

    def place_inputs(self, share: Share) -> None:
        self.next, self.stride = share.position + share.rank, share.world_size

    def pull(self) -> dict[str, np.ndarray]:
        if self.next >= self.count:
            raise EndOfData("no more")
        batch, self.next = self.next, self.next + self.stride
        return {"next:0": np.asarray(batch)}


GRAPH = WorkerGraph(
    b"",
    b"",
    (),
    (InputPort("tfresume/input/0:0", "next:0", "int64", (), origin="iterator", pull="next:0"),),
    (),
)


def test_open_batches_begins_at_the_generations_share_of_the_graphs_own_batches() -> None:
    trainer = NumberedPipeline(10)
    stream = open_batches(
        RunConfig(source="s"),
        GRAPH,
        FeedContext(rank=1, world_size=3, step=40, position=5),
        trainer,
    )
    assert stream.current()["next:0"] == 6
    assert stream.current()["next:0"] == 6  # held until the step is done
    stream.applied()
    assert stream.current()["next:0"] == 9
    stream.applied()
    with pytest.raises(EndOfData):
        stream.current()


def test_open_batches_of_the_next_generation_gives_a_held_batch_again() -> None:
    trainer = NumberedPipeline(10)
    first = open_batches(
        RunConfig(source="s"),
        GRAPH,
        FeedContext(rank=0, world_size=2, step=40, position=4),
        trainer,
    )
    held = first.current()["next:0"]
    first.close()
    again = open_batches(
        RunConfig(source="s"),
        GRAPH,
        FeedContext(rank=0, world_size=1, step=40, position=4),
        trainer,
    )
    assert again.current()["next:0"] == held
