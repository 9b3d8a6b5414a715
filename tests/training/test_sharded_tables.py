"""Does a group whose members hold some rows of each table compute what one process with all of them
does, and does none of them ever hold more than its own?

Rule: the members of one, two and three end with the same bytes, which are those of a group that
shards nothing, and of one process to rounding. What is planted to go wrong has to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import GraphRefused, PeerLost, UserCodeError
from orchestrator.graph.tables.sharding import find_shardable, shard_tables
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.graph.worker_tables import ShardedPart, ShardedTables
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State
from tests import forked
from tests.graph.tables.graphs import ROWS
from tests.graphs.library import CheckpointLibrary
from tests.training import sharded_graphs
from tests.training.conftest import NewRanks
from tests.training.many_graphs import Case, corpus_cases
from tests.training.ranks import Ranks, cut_off_once, outcome_of, worker_graph
from tests.training.sharded_graphs import DRAWN, GRAPHS, JOINT, SLOTS, STEPS, of_a_step

pytestmark = [pytest.mark.tf, pytest.mark.slow]

OPTIONS = TrainingOptions(batches_per_step=SLOTS, deterministic=True)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sharded")
    done = forked.run("tests.training.sharded_graphs", made)
    assert done.returncode == 0, done.stderr[-4000:]
    return made


@dataclass(frozen=True)
class Sharded:
    """A graph with its tables sharded, and the whole state that it starts from."""

    name: str
    whole: WorkerGraph
    graph: WorkerGraph
    prefix: Path

    @property
    def tables(self) -> ShardedTables:
        return self.graph.tables


def sharded(room: Path, name: str, **config: Any) -> Sharded:
    prefix = room / f"{name}-0"
    whole = worker_graph(prefix, **config)
    assert not whole.group_refused, whole.group_refused
    found = find_shardable(whole)
    return Sharded(name, whole, shard_tables(whole, found.tables), prefix)


def held_by_two(of: Sharded) -> Sharded:
    """The same, each row being held by two."""
    found = find_shardable(of.whole)
    return replace(of, graph=shard_tables(of.whole, found.tables, 2))


def block_of(tables: ShardedTables, state: State, rank: int, world_size: int) -> State:
    """What a rank holds of a whole state."""
    arrays = dict(state.arrays)
    for part in tables.parts:
        for name in part.members:
            arrays[name] = np.concatenate(
                [arrays[name][first:end] for first, end in part.held(rank, world_size)]
            )
    return replace(state, arrays=arrays, share=(rank, world_size))


def put_together(tables: ShardedTables, states: Sequence[State]) -> dict[str, np.ndarray]:
    """The whole state of which the ranks hold this; what several hold is the same on each."""
    arrays = dict(states[0].arrays)
    for state in states[1:]:
        for name, array in state.arrays.items():
            if name not in tables.members:
                assert array.tobytes() == arrays[name].tobytes(), name
    for part in tables.parts:
        for name in part.members:
            held = [_by_block(part, state, name) for state in states]
            whole = {block: rows for blocks in held for block, rows in blocks.items()}
            for rank, blocks in enumerate(held):
                for block, rows in blocks.items():
                    assert rows.tobytes() == whole[block].tobytes(), (name, rank, block)
            arrays[name] = np.concatenate([whole[block] for block in sorted(whole)])
            assert len(arrays[name]) == part.rows
    return arrays


def _by_block(part: ShardedPart, state: State, name: str) -> dict[tuple[int, int], np.ndarray]:
    """What a state holds of a table, by the rows that it is."""
    assert state.share is not None
    found, at = {}, 0
    for first, end in part.held(*state.share):
        found[first, end] = state.arrays[name][at : at + end - first]
        at += end - first
    assert at == len(state.arrays[name])
    return found


def begin(ranks: Ranks, of: Sharded, start: State, size: int) -> None:
    """A group of this size, each with its block."""
    ranks.form(ranks.everyone[:size], position=0)
    for rank, process in enumerate(ranks.processes):
        process.call("assign", block_of(of.tables, start, rank, size))


def trained(
    ranks: Ranks,
    of: Sharded,
    start: State,
    size: int,
    batches: Callable[[int], list[Mapping[str, Any]]] | None = None,
) -> dict[str, np.ndarray]:
    """What a group of this size ends with, which takes each step's batches."""
    begin(ranks, of, start, size)
    for step in range(STEPS):
        ranks.step(of_a_step(step, of.name) if batches is None else batches(step))
    states = ranks.states()
    for rank, state in enumerate(states):
        for part in of.tables.parts:
            rows = sum(end - first for first, end in part.held(rank, size))
            assert {len(state.arrays[name]) for name in part.members} == {rows}
    return put_together(of.tables, states)


def loaded(ranks: Ranks, of: Sharded) -> State:
    """All ranks with the sharded graph; the whole state."""
    ranks.load(of.graph, OPTIONS)
    start: State = ranks.processes[0].call("load_checkpoint", str(of.prefix), init_missing=True)
    return start


def differing(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, array in one.items() if array.tobytes() != other[name].tobytes()]


@pytest.mark.turns(6)
@pytest.mark.parametrize("name", GRAPHS)
def test_tables_in_blocks_give_the_same_bytes_on_any_number_of_members_and_as_whole_ones(
    room: Path, new_ranks: NewRanks, name: str
) -> None:
    of = sharded(room, name)
    assert of.tables, "nothing was sharded"
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, of)
    ends = [trained(ranks, of, start, size) for size in (1, 2, SLOTS)]

    assert not differing(ends[0], ends[1])
    assert not differing(ends[0], ends[2])
    for table in of.tables.parts:
        assert ends[0][table.variable].tobytes() != start.arrays[table.variable].tobytes()
    ranks.load(of.whole, OPTIONS)
    unsharded = replace(of, graph=of.whole)
    assert not differing(ends[0], trained(ranks, unsharded, start, 1))
    if name in JOINT:
        with np.load(room / f"{name}.npz") as alone:
            for variable, value in ends[0].items():
                np.testing.assert_allclose(
                    value, alone[variable], rtol=1e-6, atol=1e-6, err_msg=variable
                )


OF_OTHERS = [
    Case("library", "embedding", {"optimizer": "adam", "partitions": 3}),
    Case("library", "embedding", {"optimizer": "adagrad", "resource": True, "clip": True}),
    Case("wild", "word_vectors"),
    Case("wild", "sparse_columns"),
    *(case for case in corpus_cases() if case.name.startswith(("calebfoss", "aries-M"))),
]
"""Graphs that weren't made for this: the tests' own, habits from the wild, and those of strangers'
checkpoints that look rows up and take batches as they are.
"""


@pytest.mark.turns(6)
@pytest.mark.parametrize("case", OF_OTHERS, ids=str)
def test_graphs_of_others_train_the_same_with_their_tables_divided(
    case: Case, tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    source = case.source(tf1_checkpoint, tmp_path)
    found = find_shardable(source.graph)
    assert found.tables, found.wholes
    graph = shard_tables(source.graph, found.tables)
    of = Sharded(case.name, source.graph, graph, source.prefix)

    def batches(step: int) -> list[Mapping[str, Any]]:
        return [source.serve(SLOTS * step + slot) for slot in range(SLOTS)]

    ranks = new_ranks(2)
    start = loaded(ranks, of)
    alone = trained(ranks, of, start, 1, batches)
    together = trained(ranks, of, start, 2, batches)
    ranks.load(of.whole, OPTIONS)
    whole = trained(ranks, replace(of, graph=of.whole), start, 1, batches)

    for member in graph.tables.members:
        assert np.isfinite(together[member]).all()
    assert differing(alone, dict(start.arrays))
    if not source.graph.stateful_random:  # what draws candidates was saved without a seed
        assert not differing(alone, whole)
        assert not differing(alone, together)


@pytest.mark.parametrize("name", DRAWN)
def test_candidates_are_drawn_as_often_as_with_whole_tables_and_their_rows_get_the_gradients(
    room: Path, new_ranks: NewRanks, name: str
) -> None:
    of = sharded(room, name)
    assert {part.table for part in of.tables.parts} == {"words", "softmax", "biases"}
    assert of.tables.drawn
    ranks = new_ranks(2)
    start = loaded(ranks, of)
    divided = trained(ranks, of, start, 1)
    together = trained(ranks, of, start, 2)
    ranks.load(of.whole, OPTIONS)

    assert not differing(divided, trained(ranks, replace(of, graph=of.whole), start, 1))
    assert "words" in differing(together, dict(start.arrays))


def test_train_operations_in_turns_of_which_one_looks_nothing_up_train_the_same(
    room: Path, new_ranks: NewRanks
) -> None:
    of = sharded(room, "in_turns", train_op=["rows", "rest"])
    assert len(of.graph.targets) == 2
    assert {lookup.targets for read in of.tables.reads for lookup in read.lookups} == {(0,)}
    ranks = new_ranks(2)
    start = loaded(ranks, of)
    alone, together = (trained(ranks, of, start, size) for size in (1, 2))
    ranks.load(of.whole, OPTIONS)

    assert not differing(alone, together)
    assert not differing(alone, trained(ranks, replace(of, graph=of.whole), start, 1))
    assert {"table", "dense"} <= set(differing(alone, dict(start.arrays)))


def test_cases_take_in_every_optimizer_empty_batches_duplicates_and_a_row_that_all_name() -> None:
    every = [batch["ids:0"] for step in range(STEPS) for batch in of_a_step(step)]
    full = [ids for ids in every if len(ids)]

    assert len(full) < len(every)
    assert all(len(set(ids.tolist())) < len(ids) for ids in full)
    assert all(7 in ids for ids in full)
    assert {name.partition("-")[0] for name in GRAPHS} >= set(sharded_graphs.OF_THE_ISSUE)


# -- what would have to show


@pytest.fixture
def spoiled(new_ranks: NewRanks) -> Iterator[Ranks]:
    """Ranks whose processes end with the test, since it plants bugs in them."""
    ranks = new_ranks(2)
    yield ranks
    for process in ranks.everyone:
        process.close()


def _keep_to_itself(trainer: Any) -> None:
    """The bug: nothing is exchanged, and the rows of others are what they were before: nothing."""
    rows = trainer._group._rows
    usual = rows._gathered

    class Alone:
        def __init__(self, mesh: Any) -> None:
            self.mesh, self.world_size = mesh, mesh.world_size

        def all_gather(self, blob: bytes) -> list[bytes | memoryview]:
            every = self.mesh.all_gather(blob)
            return [
                each if rank == self.mesh.rank else bytes(len(each))
                for rank, each in enumerate(every)
            ]

    rows._gathered = lambda mesh, *rest: usual(Alone(mesh), *rest)


def _write_everything(trainer: Any) -> None:
    """The bug: indices aren't less the block's first row."""
    rows = trainer._group._rows
    usual = rows._block
    firsts = [part.first for part in trainer.graph.tables.parts]
    rows._block = lambda mesh: {
        name: value * (name not in firsts) for name, value in usual(mesh).items()
    }


@pytest.mark.parametrize("plant", [_keep_to_itself, _write_everything])
def test_exchange_of_rows_that_does_nothing_is_found(
    room: Path, spoiled: Ranks, plant: Any
) -> None:
    of = sharded(room, "adagrad-ref")
    spoiled.load(of.graph, replace(OPTIONS, batches_per_step=SLOTS))
    start = spoiled.processes[0].call("load_checkpoint", str(of.prefix))
    sound = trained(spoiled, of, start, 2)
    spoiled.each("apply", plant)

    assert "table" in differing(sound, trained(spoiled, of, start, 2))


def test_id_that_no_row_has_is_told_by_who_was_given_it(room: Path, new_ranks: NewRanks) -> None:
    of = sharded(room, "sgd-ref")
    ranks = new_ranks(2)
    ranks.load(of.graph, replace(OPTIONS, batches_per_step=2))
    start = ranks.processes[0].call("load_checkpoint", str(of.prefix))
    begin(ranks, of, start, 2)
    good, bad = ({"ids:0": np.array([1, 2])}, {"ids:0": np.array([1, ROWS])})
    outcomes = ranks.outcomes([good, bad])

    assert isinstance(outcomes[0], PeerLost)
    assert isinstance(outcomes[1], UserCodeError)
    assert f"looks up row {ROWS} of table" in str(outcomes[1])
    assert not differing(put_together(of.tables, ranks.states()), start.arrays)


def test_members_that_change_their_number_without_moving_rows_take_no_step(
    room: Path, new_ranks: NewRanks
) -> None:
    of = sharded(room, "sgd-ref")
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, of)
    begin(ranks, of, start, SLOTS)
    ranks.step(of_a_step(0, of.name))
    ranks.form(ranks.everyone[:2])
    outcomes = ranks.outcomes(of_a_step(1, of.name))

    assert all(isinstance(outcome, GraphRefused) for outcome in outcomes), outcomes
    assert "holds the table rows of rank 0 of 3" in str(outcomes[0])


# -- what breaks off


def test_step_that_broke_off_and_a_result_that_a_member_lacked_leave_no_trace(
    room: Path, new_ranks: NewRanks
) -> None:
    of = sharded(room, "adagrad-resource")
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, of)
    undisturbed = trained(ranks, of, start, SLOTS)
    begin(ranks, of, start, SLOTS)
    ranks.step(of_a_step(0, of.name))

    dealt = ranks.dealt(of_a_step(1, of.name))
    for process, batches in zip(ranks.processes[:2], dealt, strict=False):
        process.send("step", batches)
    ranks.processes[2].control("abandon")
    broken = [outcome_of(process.receive) for process in ranks.processes[:2]]
    assert all(isinstance(outcome, PeerLost) for outcome in broken), broken
    ranks.form()
    ranks.step(of_a_step(1, of.name))

    ranks.processes[1].call("apply", cut_off_once, 0)
    outcomes = ranks.outcomes(of_a_step(2, of.name))
    assert isinstance(outcomes[1], PeerLost), outcomes
    assert not isinstance(outcomes[0], BaseException)
    ranks.form(position=3 * SLOTS)
    assert ranks.each("meet") == [False, True, False]
    ranks.step(of_a_step(3, of.name))

    assert not differing(undisturbed, put_together(of.tables, ranks.states()))


# -- memory

TALL = 1_200_000
"""Rows of 64 numbers: with their slot 600 MB, so that what TensorFlow takes beside it is small."""


def _hold(trainer: Any, first: int, end: int, share: tuple[int, int]) -> None:
    """Take the rows of a rank's block; what the process takes at most counts from here on."""
    arrays = {"global_step": np.array(0, np.int64)}
    for variable in trainer.graph.variables:
        if variable.name.startswith("table"):
            arrays[variable.name] = np.broadcast_to(np.float32(0.5), (end - first, 64))
    Path("/proc/self/clear_refs").write_text("5")
    trainer.assign(State(0, arrays, share=share))


def _peak_bytes(trainer: Any) -> int:
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return 1024 * int(line.split()[1])


def grown_bytes(ranks: Ranks, blocks: Sequence[tuple[int, int]]) -> list[int]:
    """By how much members that hold these rows grow at most in a step."""
    ranks.form(position=0)
    before = ranks.each("apply", _peak_bytes)
    for rank, (process, block) in enumerate(zip(ranks.processes, blocks, strict=True)):
        process.call("apply", _hold, *block, (rank, len(blocks)))
    ranks.step([{"ids:0": np.arange(slot, TALL, TALL // 2000)} for slot in range(SLOTS)])
    return [
        after - base for after, base in zip(ranks.each("apply", _peak_bytes), before, strict=True)
    ]


def test_member_never_takes_the_memory_of_a_whole_table(
    tmp_path: Path, new_ranks: NewRanks
) -> None:
    done = forked.run("tests.training.sharded_graphs", tmp_path, TALL)
    assert done.returncode == 0, done.stderr[-4000:]
    whole = worker_graph(tmp_path / "tall")
    graph = shard_tables(whole, find_shardable(whole).tables)
    (part,) = graph.tables.parts
    whole_bytes = len(part.members) * TALL * 64 * 4
    ranks = new_ranks(SLOTS)
    ranks.load(graph, OPTIONS)
    blocks = [part.block(rank, SLOTS) for rank in range(SLOTS)]

    assert all(grown < whole_bytes * 0.75 for grown in grown_bytes(ranks, blocks))
    ranks.processes = ranks.everyone[:1]
    ranks.load(whole, OPTIONS)
    assert grown_bytes(ranks, [(0, TALL)])[0] > whole_bytes * 0.9, "the measure shows nothing"
