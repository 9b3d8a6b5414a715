"""Does each rank take its own rows of a checkpoint's tables, nothing of the others', and does none
train on a table that isn't what was saved?

Rule: what ranks have read by rows, put together, is what one process reads whole; rows that a
checkpoint lacks begin alike on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.errors import CorruptCheckpoint, GraphMismatch
from orchestrator.graph.loading import Loading
from orchestrator.graph.tables.sharding import find_shardable, shard_tables
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.bundle.stored_index import stored_index
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.location import FileInfo
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State
from orchestrator.workers.orders import CheckpointFiles
from orchestrator.workers.runtime import RealTools
from tests import forked
from tests.graph.tables.graphs import ROWS
from tests.graphs.library import CheckpointLibrary
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks, outcome_of
from tests.training.sharded_graphs import SLOTS, of_a_step
from tests.training.test_sharded_tables import Sharded, begin, differing, put_together, sharded
from tests.training.test_surgery import edited

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.turns(3)]

OPTIONS = TrainingOptions(batches_per_step=SLOTS, deterministic=True)
NAMES = ("adagrad-ref", "parts-adam", "clipped-parts", "average", "lazy_adam-resource")
AVERAGES = ("average-ref",)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("rows")
    done = forked.run("tests.training.sharded_graphs", made, *NAMES, *AVERAGES)
    assert done.returncode == 0, done.stderr[-4000:]
    return made


def files_of(prefix: Path) -> tuple[FileInfo, ...]:
    return tuple(resolve_source(f"{prefix}.meta").files)


def read_by_worker(
    trainer: Any, prefix: str, files: Sequence[FileInfo], share: tuple[int, int], **how: Any
) -> State:
    """What a worker's session holds that has read it in order to join."""
    setup = SimpleNamespace(
        start=None, graph=trainer.graph, config=RunConfig(source=prefix, **how.pop("config", {}))
    )
    tools = RealTools(setup)  # type: ignore[arg-type]
    tools._trainer = trainer
    state: State = tools.checkpoint_state(CheckpointFiles(0, 0, prefix, tuple(files), **how), share)
    trainer.assign(state)
    assert state.placed.keys() == trainer.graph.tables.members  # rows are in memory once
    return replace(trainer.state(), reads=state.reads)


def joined(
    ranks: Ranks, prefix: Path, size: int, files: Sequence[FileInfo] = (), **how: Any
) -> list[State]:
    """A group of this size, whose ranks have each read their own."""
    ranks.form(ranks.everyone[:size], position=0)
    files = files or files_of(prefix)
    for rank, process in enumerate(ranks.processes):
        process.send("apply", read_by_worker, str(prefix), files, (rank, size), **how)
    return [process.receive() for process in ranks.processes]


@pytest.mark.parametrize("name", NAMES)
def test_ranks_read_their_rows_and_train_what_ranks_train_that_were_given_them(
    room: Path, new_ranks: NewRanks, name: str
) -> None:
    of = sharded(room, name)
    ranks = new_ranks(SLOTS)
    ranks.load(of.graph, OPTIONS)
    whole: State = ranks.processes[0].call("load_checkpoint", str(of.prefix))
    for size in (1, 2, SLOTS):
        states = joined(ranks, of.prefix, size)
        for rank, state in enumerate(states):
            assert state.share == (rank, size)
            for part in of.tables.parts:
                first, end = part.block(rank, size)
                assert {len(state.arrays[one]) for one in part.members} == {end - first}
        assert not differing(put_together(of.tables, states), whole.arrays)
        ranks.step(of_a_step(0, of.name))
        read = put_together(of.tables, ranks.states())
        assert {(state.share, state.step) for state in ranks.states()} == {
            ((rank, size), 1) for rank in range(size)
        }
        begin(ranks, of, whole, size)
        ranks.step(of_a_step(0, of.name))
        assert not differing(read, put_together(of.tables, ranks.states()))


def moved(trainer: Any, prefix: str, files: Sequence[FileInfo], share: tuple[int, int]) -> int:
    """Bytes that a worker reads of the data files."""
    from orchestrator.store.objects.location import Location

    real, read = Location.read_bytes, []

    def counting(location: Any, start: int = 0, end: int | None = None) -> bytes:
        data = real(location, start, end)
        if ".data-" in location.url:
            read.append(len(data))
        return data

    Location.read_bytes = counting  # type: ignore[method-assign,assignment]
    try:
        read_by_worker(trainer, prefix, files, share)
    finally:
        Location.read_bytes = real  # type: ignore[method-assign]
    return sum(read)


def test_rank_reads_no_byte_of_the_others_rows(room: Path, new_ranks: NewRanks) -> None:
    of = sharded(room, "adagrad-ref")
    ranks = new_ranks(2)
    ranks.load(of.graph, OPTIONS)
    files = files_of(of.prefix)
    index = stored_index(files)
    divided = sum(
        index.entries[name].size_bytes for part in of.tables.parts for name in part.members
    )
    rest = sum(piece.size_bytes for piece in index.pieces) - divided
    read = [
        process.call("apply", moved, str(of.prefix), files, (rank, 2))
        for rank, process in enumerate(ranks.processes)
    ]

    assert divided
    assert read == [divided // 2 + rest] * 2


def spoilt(prefix: Path, room: Path, name: str, row: int) -> tuple[FileInfo, ...]:
    """A copy, one bit of one row of a tensor of which was turned over once it was looked at."""
    index = stored_index(files_of(prefix))
    tensor = index.entries[name]
    for file in prefix.parent.glob(f"{prefix.name}.*"):
        (room / file.name).write_bytes(file.read_bytes())
    files = files_of(room / prefix.name)
    (data,) = room.glob(f"{prefix.name}.data-*")
    content = bytearray(data.read_bytes())
    content[tensor.offset + row * (tensor.size_bytes // tensor.shape[0])] ^= 1
    data.write_bytes(content)
    return files


@pytest.mark.parametrize("row", [0, ROWS - 1])
def test_damaged_table_is_refused_by_every_rank_with_its_name_whoever_read_the_damage(
    room: Path, new_ranks: NewRanks, tmp_path: Path, row: int
) -> None:
    of = sharded(room, "adagrad-ref")
    bad = spoilt(of.prefix, tmp_path, "table/Adagrad", row)
    ranks = new_ranks(2)
    ranks.load(of.graph, OPTIONS)
    joined(ranks, of.prefix, 2, bad)
    for process in ranks.processes:
        process.send("meet")
    found = [outcome_of(process.receive) for process in ranks.processes]

    for error in found:
        assert isinstance(error, CorruptCheckpoint), error
        assert "table/Adagrad" in str(error)
        assert "fails its checksum" in str(error)
    joined(ranks, of.prefix, 2)
    ranks.each("meet")  # the sound one is taken by the same members


def divided(graph: WorkerGraph) -> WorkerGraph:
    return shard_tables(graph, find_shardable(graph).tables)


def made_on(
    ranks: Ranks, graph: WorkerGraph, prefix: Path, **how: Any
) -> list[dict[str, np.ndarray]]:
    """The whole state that one rank, two and three begin with, put together."""
    found = []
    for size in (1, 2, len(ranks.everyone)):
        states = joined(ranks, prefix, size, **how)
        ranks.each("meet")
        found.append(put_together(graph.tables, states))
    return found


def test_slots_that_a_checkpoint_lacks_begin_by_row_as_whole_ones_do(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    prefix = tf1_checkpoint("embedding", optimizer="sgd")
    whole = edited(prefix, 3, swap_optimizer="adagrad")[1]
    graph = divided(whole)
    slots = [name for part in graph.tables.parts for name in part.members[1:]]
    ranks = new_ranks(SLOTS)
    ranks.load(graph, OPTIONS)
    found = made_on(ranks, graph, prefix, of_source=True)
    ranks.load(whole, OPTIONS)
    wanted: State = ranks.processes[0].call("load_checkpoint", str(prefix))

    assert slots
    for one in found:
        assert not differing(one, wanted.arrays)
        assert all(one[name].any() for name in slots)


def test_rows_of_a_grown_table_are_drawn_alike_on_any_number_of_ranks_and_not_twice(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    old, new = 20, 41
    prefix = tf1_checkpoint("embedding", optimizer="momentum")
    graph = divided(edited(prefix, 3, grow={"embedding/table": new})[1])
    ranks = new_ranks(SLOTS)
    ranks.load(graph, OPTIONS)
    one, two, three = made_on(ranks, graph, prefix, of_source=True)
    ranks.load(edited(prefix, 3)[1], OPTIONS)
    before: State = ranks.processes[0].call("load_checkpoint", str(prefix))

    assert not differing(one, two)
    assert not differing(one, three)
    table, slot = one["embedding/table"], one["embedding/table/Momentum"]
    assert len(table) == len(slot) == new
    assert table[:old].tobytes() == before.arrays["embedding/table"].tobytes()
    assert len(np.unique(table[:, 0])) == new
    assert not slot[old:].any()


def test_table_that_a_checkpoint_lacks_is_drawn_by_row_only_where_that_was_allowed(
    room: Path, new_ranks: NewRanks
) -> None:
    of = sharded(room, "adagrad-ref")
    lacking = Loading(renamed={"table": "nothing"})
    graph = Sharded(of.name, of.whole, _with(of.graph, lacking), of.prefix).graph
    ranks = new_ranks(SLOTS)
    ranks.load(graph, OPTIONS)
    with pytest.raises(
        GraphMismatch, match="lacks 1 variables that the train operation needs: table"
    ):
        joined(ranks, of.prefix, 1, of_source=True)
    one, two, three = made_on(
        ranks, graph, of.prefix, of_source=True, config={"init_missing": True}
    )

    assert not differing(one, two)
    assert not differing(one, three)
    assert len(np.unique(one["table"][:, 0])) == ROWS
    assert 0.1 < one["table"].std() < 0.5


@pytest.mark.parametrize("kind", ["ref", "resource"])
def test_average_of_a_table_that_a_checkpoint_lacks_begins_with_the_tables_rows(
    room: Path, new_ranks: NewRanks, kind: str
) -> None:
    """Its initialiser asks whether the table is set, as any does that follows from a variable."""
    of = sharded(room, "average" if kind == "resource" else "average-ref")
    (average,) = (name for name in of.tables.members if name.endswith("ExponentialMovingAverage"))
    graph = _with(of.graph, Loading(renamed={average: "nothing"}))
    ranks = new_ranks(SLOTS)
    ranks.load(graph, OPTIONS)
    found = made_on(ranks, graph, of.prefix, of_source=True, config={"init_missing": True})

    for one in found:
        assert one[average].tobytes() == one["table"].tobytes()
        assert one["table"].any()


def _with(graph: WorkerGraph, loading: Loading) -> WorkerGraph:
    return replace(graph, loading=loading)
