"""Does a table that has grown train what plain TensorFlow 1 code with so many rows trains?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import GraphMismatch
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State
from tests.graphs.feeds import CLASSES
from tests.graphs.library import CheckpointLibrary
from tests.training import plain_edits
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks
from tests.training.test_surgery import SLOTS, STEPS, assert_equal, edited

pytestmark = pytest.mark.tf
OLD, NEW = 20, 31


def batches() -> list[list[Mapping[str, Any]]]:
    """Ids of all rows, the new ones too."""
    rng = np.random.default_rng(11)

    def batch() -> Mapping[str, Any]:
        rows = int(rng.integers(1, 9))
        return {"ids:0": rng.integers(0, NEW, rows), "y:0": rng.integers(0, CLASSES, rows)}

    return [[batch() for _ in range(SLOTS)] for _ in range(STEPS)]


def joint() -> list[Mapping[str, Any]]:
    return [
        {key: np.concatenate([part[key] for part in batch]) for key in batch[0]}
        for batch in batches()
    ]


@pytest.mark.turns(6)
@pytest.mark.parametrize(
    ("optimizer", "resource", "partitions"),
    [
        ("sgd", False, 0),
        ("momentum", True, 0),
        ("adagrad", False, 1),
        ("adam", False, 0),
        ("adam", True, 1),
        ("ftrl", True, 0),
        ("rmsprop", False, 0),
    ],
)
def test_grown_table_begins_and_trains_as_in_code_and_is_saved_for_plain_tensorflow(
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    tmp_path: Path,
    optimizer: str,
    resource: bool,
    partitions: int,
) -> None:
    options = {"optimizer": optimizer, "resource": resource, "partitions": partitions}
    prefix = tf1_checkpoint("embedding", **options)
    before, wanted = (
        new_ranks(1)
        .processes[0]
        .call(
            *("function", plain_edits.grown_in_code, "embedding"),
            *({**options, "vocabulary": NEW}, str(prefix), joint()),
        )
    )
    states = []
    for workers in (1, 2):
        ranks = new_ranks(workers)
        graph = edited(prefix, workers, grow={"embedding/table": NEW})[1]
        ranks.load(
            graph,
            TrainingOptions(batches_per_step=SLOTS, gradient_scale="auto", deterministic=True),
        )
        start: State = ranks.processes[0].call("load_checkpoint", str(prefix))
        assert_equal(start, before)
        ranks.form(position=0)
        ranks.assign(start)
        for batch in batches():
            ranks.step(batch)
        states += ranks.states()
    written = ranks.processes[0].call("apply", plain_edits.saved, str(tmp_path), "model.ckpt-9")
    own: State = ranks.processes[0].call("load_checkpoint", written, of_source=False)
    restored, _ = (
        new_ranks(1)
        .processes[0]
        .call(
            *("function", plain_edits.restored_in_three_lines, written),
            *(joint()[0], graph.targets[0].op),
        )
    )

    for state in (*states[1:], own):
        assert_identical(state, states[0])
    assert_equal(states[0], wanted)
    table = next(name for name in wanted if name.startswith("embedding/table"))
    assert wanted[table].shape == (NEW, 8)
    assert (wanted[table][OLD:] != before[table][OLD:]).any()  # the new rows are trained
    for name, value in restored.items():
        assert value.tobytes() == states[0].arrays[name].tobytes(), name


def test_checkpoint_with_more_rows_than_the_graph_is_refused_and_one_with_fewer_completed(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    short = tf1_checkpoint("embedding", optimizer="momentum")
    long = tf1_checkpoint("embedding", optimizer="momentum", vocabulary=NEW + 1)
    ranks = new_ranks(1)
    graph = edited(short, 1, grow={"embedding/table": NEW})[1]
    ranks.load(graph, TrainingOptions())
    start: State = ranks.processes[0].call("load_checkpoint", str(short), of_source=False)

    assert start.arrays["embedding/table"].shape == (NEW, 8)
    assert not start.arrays["embedding/table/Momentum"][OLD:].any()
    assert start.arrays["embedding/table/Momentum"][:OLD].any()
    with pytest.raises(GraphMismatch, match=f"has {NEW + 1} rows of embedding/table"):
        ranks.processes[0].call("load_checkpoint", str(long))
