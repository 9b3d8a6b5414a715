"""Graphs that feed themselves: ranks get disjoint batches that cover the data, also after a change
of the world size.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.errors import EndOfData
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import plan
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.inputs.rank_share import Share
from tests.graphs.library import CheckpointLibrary
from tests.graphs.pipeline_makers import BATCH, ROWS
from tests.training.conftest import NewRanks
from tests.training.ranks import RankProcess, Ranks

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]

BATCHES = ROWS // BATCH
ENDLESS: list[tuple[str, dict[str, Any]]] = [
    ("csv_lines", {}),
    ("csv_lines", {"iterator": "initializable", "shuffle": 16}),
    ("records", {}),
    ("slices", {}),
    ("slices", {"seed": -1}),
    ("interleave", {}),
    ("interleave", {"pattern": True}),
    ("interleave", {"parallel": 1}),
    ("reader_queue", {}),
    ("reader_queue", {"shuffle": True}),
    ("slice_queue", {}),
    ("slice_queue", {"shuffle": False}),
]
IDS = [
    "-".join([kind, *(f"{key}={value}" for key, value in options.items())])
    for kind, options in ENDLESS
]


def self_feeding(prefix: Path, workers: int = 2, **config: Any) -> WorkerGraph:
    """The plan of a graph whose own pipeline supplies its batches."""
    meta = read_meta(Path(f"{prefix}.meta").read_bytes(), name=str(prefix))
    planned = plan(
        meta,
        RunConfig.model_validate(
            {"source": str(prefix), "workers": {"count": 1, "max": workers}, **config}
        ),
    )
    if planned.worker_graph is None:
        raise AssertionError([problem.message for problem in planned.errors])
    return planned.worker_graph


def loaded(new_ranks: NewRanks, prefix: Path, count: int = 2, **config: Any) -> Ranks:
    ranks = new_ranks(count)
    graph = self_feeding(prefix, workers=count, **config)
    ranks.load(graph, TrainingOptions(batches_per_step=count, py_func=config.get("py_func", {})))
    return ranks


def rows_of(batch: dict[str, np.ndarray]) -> list[int]:
    """The numbers of the rows that a batch holds."""
    features = next(value for value in batch.values() if value.ndim == 2)
    return [int(number) for number in features[:, 0]]


def pull(process: RankProcess, count: int) -> list[list[int]]:
    """Up to ``count`` batches of a rank, fewer where its data ends."""
    found = []
    for _ in range(count):
        try:
            found.append(rows_of(process.call("pull")))
        except EndOfData:
            break
    return found


def place(ranks: Iterable[RankProcess], position: int) -> None:
    """Form a group: each process gets its rank's share from ``position`` on."""
    members = list(ranks)
    for rank, process in enumerate(members):
        process.call("place_inputs", Share(rank, len(members), position))


@pytest.mark.parametrize(
    ("kind", "options"), [ENDLESS[0], ENDLESS[4], ENDLESS[9]], ids=[IDS[0], IDS[4], IDS[9]]
)
def test_pull_on_two_ranks_covers_each_row_once_per_epoch(
    kind: str, options: dict[str, Any], new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary
) -> None:
    ranks = loaded(new_ranks, tf1_checkpoint(kind, **options))
    place(ranks.processes, 0)
    each = [pull(process, BATCHES // 2) for process in ranks.processes]
    seen = sorted(row for batches in each for batch in batches for row in batch)
    assert seen == list(range(ROWS))
    assert all(len(batch) == BATCH for batches in each for batch in batches)


@pytest.mark.parametrize(("kind", "options"), ENDLESS, ids=IDS)
def test_pull_after_the_world_size_changed_in_the_middle_leaves_out_and_repeats_nothing(
    kind: str, options: dict[str, Any], new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary
) -> None:
    ranks = loaded(new_ranks, tf1_checkpoint(kind, **options))
    first, second = ranks.processes
    place([first, second], 0)
    seen = [batch for process in (first, second) for batch in pull(process, 2)]
    place([second], 4)  # the first is lost; the second goes on alone
    seen += pull(second, 2)
    place([second, first], 6)  # and gets company again
    seen += [batch for process in (second, first) for batch in pull(process, (BATCHES - 6) // 2)]
    assert sorted(row for batch in seen for row in batch) == list(range(ROWS))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("csv_lines", {"epochs": 1}),
        ("slices", {"epochs": 1}),
        ("reader_queue", {"epochs": 1}),
        ("reader_queue", {"epochs": 1, "many": True}),
    ],
)
def test_pull_of_data_that_ends_gives_every_row_once_and_then_the_end(
    kind: str, options: dict[str, Any], new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary
) -> None:
    ranks = loaded(new_ranks, tf1_checkpoint(kind, **options))
    place(ranks.processes, 0)
    each = [pull(process, ROWS) for process in ranks.processes]
    assert sorted(row for batches in each for batch in batches for row in batch) == list(
        range(ROWS)
    )
    for process in ranks.processes:
        with pytest.raises(EndOfData):
            process.call("pull")


def test_pull_at_the_same_place_again_gives_the_same_batches(
    new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary
) -> None:
    ranks = loaded(new_ranks, tf1_checkpoint("csv_lines", iterator="initializable", shuffle=16))
    first, second = ranks.processes
    place([first, second], 6)
    before = pull(second, 3)
    place([first, second], 6)
    assert pull(second, 3) == before


def test_pull_at_the_place_that_was_reached_goes_on_without_a_new_start(
    new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary
) -> None:
    ranks = loaded(new_ranks, tf1_checkpoint("reader_queue"))
    first, second = ranks.processes
    place([first, second], 0)
    begun = pull(first, 2)
    place([first, second], 4)
    assert begun + pull(first, 1) == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 20, 22]]


def test_pull_of_one_worker_gives_the_batches_of_plain_tensorflow(
    new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary
) -> None:
    ranks = loaded(new_ranks, tf1_checkpoint("csv_lines"), count=1)
    place(ranks.processes, 0)
    assert pull(ranks.processes[0], 3) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_train_step_on_two_ranks_with_their_own_batches_keeps_the_variables_equal(
    new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary
) -> None:
    prefix = tf1_checkpoint("records")
    ranks = loaded(new_ranks, prefix)
    state = ranks.processes[0].call("load_checkpoint", str(prefix))
    ranks.form(position=0)
    ranks.assign(state)
    place(ranks.processes, 0)
    for _ in range(3):
        ranks.step(ranks.each("pull"))
    kernels = [after.arrays["kernel"] for after in ranks.states()]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], state.arrays["kernel"])


def test_moved_files_with_a_path_map_are_read_from_where_they_are(
    new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary, tmp_path: Path
) -> None:
    prefix = tf1_checkpoint.copy(tmp_path / "copy", "csv_lines")
    old = tf1_checkpoint("csv_lines").parent / "data"
    moved = (tmp_path / "copy" / "data").rename(tmp_path / "moved")
    (moved / "part-0.csv").write_text("".join(f"{1000 + row},0,0,0,0,0,1\n" for row in range(12)))
    ranks = loaded(new_ranks, prefix, count=1, path_map={str(old): str(moved)})
    place(ranks.processes, 0)
    assert pull(ranks.processes[0], 4) == [
        [1000, 1001, 1002, 1003],
        [1004, 1005, 1006, 1007],
        [1008, 1009, 1010, 1011],
        [12, 13, 14, 15],
    ]


def test_generator_with_one_function_is_drawn_from_by_all_ranks(
    new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary
) -> None:
    functions = {"pyfunc_1": "tests.graphs.pipeline_makers:generated_rows"}
    ranks = loaded(new_ranks, tf1_checkpoint("generator"), py_func=functions)
    place(ranks.processes, 0)
    each = [pull(process, BATCHES // 2 + 1) for process in ranks.processes]
    assert sorted(row for batches in each for batch in batches[:-1] for row in batch) == list(
        range(ROWS)
    )
    assert [batches[-1] for batches in each] == [[0, 1, 2, 3], [4, 5, 6, 7]]  # the next epoch


def test_py_func_in_a_map_function_is_called_with_its_function(
    new_ranks: NewRanks, tf1_checkpoint: CheckpointLibrary
) -> None:
    ranks = loaded(
        new_ranks,
        tf1_checkpoint("py_augment"),
        py_func={"pyfunc_0": "tests.graphs.pipeline_makers:double"},
    )
    place(ranks.processes, 0)
    from tests.graphs.pipeline_makers import double, row

    batch = ranks.processes[1].call("pull")
    features = next(value for value in batch.values() if value.ndim == 2)
    np.testing.assert_allclose(features, np.stack([double(row(number)) for number in range(4, 8)]))
