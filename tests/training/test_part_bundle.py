"""Are the data files that ranks write of their rows, under one index, the tensors of a whole save?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.decide import save_parts
from orchestrator.errors import OutputError
from orchestrator.graph.worker_graph import SaverEntry, Variable, WorkerGraph
from orchestrator.graph.worker_tables import ShardedPart, ShardedTables
from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.bundle.values import Values
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.transfer.part_files import send_index, send_part
from orchestrator.store.transfer.upload import upload
from orchestrator.training.state.bundle_writer import bundle_contents, own_part, part_bundle
from orchestrator.training.state.state import State

PREFIX = "m-7"


def _part(table: str, rows: int, *members: str, width: tuple[int, ...] = (3,)) -> ShardedPart:
    return ShardedPart(table, members[0], members, rows, width, "first:0", "count:0")


def _variable(name: str, dtype: str = "float32", spec: str = "", key: str = "") -> Variable:
    return Variable(name, "ref", dtype, None, key=key or name, slice_spec=spec)


GRAPH = WorkerGraph(
    b"",
    b"graph",
    (),
    (),
    (
        _variable("emb", "float64"),
        _variable("emb/Adam"),
        _variable("few", "int64"),
        _variable("by_rows/part_0", spec="11 3 0,4:0,3", key="by_rows"),
        _variable("by_rows/part_1", spec="11 3 4,7:-", key="by_rows"),
        _variable("by_columns/part_0", spec="5 7 -:0,4", key="by_columns"),
        _variable("by_columns/part_1", spec="5 7 0,5:4,3", key="by_columns"),
        _variable("dense/part_0", spec="4 2 0,1:-", key="dense"),
        _variable("dense/part_1", spec="4 2 1,3:-", key="dense"),
        _variable("global_step", "int64"),
        _variable("words", "string"),
        _variable("half", "float16"),
        _variable("local"),
    ),
    (SaverEntry("table/keys", "", "string", "t:0", "r:0", "op"),),
    tables=ShardedTables(
        (
            _part("emb", 10, "emb", "emb/Adam"),
            _part("few", 2, "few", width=()),
            _part("by_rows", 4, "by_rows/part_0"),
            _part("by_rows", 7, "by_rows/part_1"),
            _part("by_columns", 5, "by_columns/part_0", width=(4,)),
            _part("by_columns", 5, "by_columns/part_1"),
        )
    ),
)
"""Tables with slots, of fewer rows than ranks, in parts by rows and by columns, and what isn't
divided: a partitioned variable, a counter, text, a type that has no slices, a lookup table.
"""


def whole_state() -> State:
    draw = np.random.default_rng(3)
    arrays: dict[str, Any] = {
        "emb": draw.normal(size=(10, 3)),
        "emb/Adam": draw.normal(size=(10, 2, 2)).astype(np.float32),
        "few": np.array([5, 6]),
        "by_rows/part_0": draw.normal(size=(4, 3)).astype(np.float32),
        "by_rows/part_1": draw.normal(size=(7, 3)).astype(np.float32),
        "by_columns/part_0": draw.normal(size=(5, 4)).astype(np.float32),
        "by_columns/part_1": draw.normal(size=(5, 3)).astype(np.float32),
        "dense/part_0": draw.normal(size=(1, 2)).astype(np.float32),
        "dense/part_1": draw.normal(size=(3, 2)).astype(np.float32),
        "global_step": np.int64(7),
        "words": np.array([b"a", b""], object),
        "half": np.ones(3, np.float16),
        "local": np.float32(9.0),
        "entry:table/keys": np.array([b"x", b"yy"], object),
    }
    return State(7, arrays)


def shared(whole: State, ranks: int) -> list[State]:
    """What each rank holds."""
    found = []
    for rank in range(ranks):
        arrays = dict(whole.arrays)
        for part in GRAPH.tables.parts:
            first, last = part.block(rank, ranks)
            for name in part.members:
                arrays[name] = arrays[name][first:last]
        found.append(replace(whole, arrays=arrays, share=(rank, ranks)))
    return found


def held(directory: Location, prefix: str) -> dict[str, tuple[str, tuple[int, ...], Any]]:
    """Type, shape and values of every tensor of a checkpoint, each as a whole."""
    files = {info.name: info for info in directory.list()}
    index = read_index(directory.child(f"{prefix}.index").read_bytes(0, 1 << 20))
    data = [
        files[f"{prefix}.data-{number:05d}-of-{index.num_shards:05d}"]
        for number in range(index.num_shards)
    ]
    values = Values(index, [files[f"{prefix}.index"], *data])
    return {
        key: (
            tensor.dtype,
            tensor.shape,
            values.strings(key) if tensor.dtype == "string" else b"".join(values.chunks(key)),
        )
        for key, tensor in index.entries.items()
    }


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_rows_that_ranks_write_are_the_tensors_of_a_whole_save(tmp_path: Any, ranks: int) -> None:
    whole = whole_state()
    alone, together = (open_location(str(tmp_path / name)) for name in ("alone", "together"))
    upload(bundle_contents(whole, replace(GRAPH, tables=ShardedTables()), PREFIX), alone)
    reports = []
    for rank, state in enumerate(shared(whole, ranks)):
        own = own_part(state, GRAPH, rank, ranks)
        assert rank == 0 or own.arrays.keys() == GRAPH.tables.members
        bundle = part_bundle(own, GRAPH, PREFIX, (rank, ranks))
        (record,) = send_part([bundle.data()], together)
        assert record.name == f"{PREFIX}.data-{rank:05d}-of-{ranks:05d}"
        reports.append(bundle.report())
    send_index(PREFIX, reports[::-1], together)

    assert held(together, PREFIX) == held(alone, PREFIX)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_parts_that_ranks_write_of_what_they_hold_alike_are_the_tensors_of_a_whole_save(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    monkeypatch.setattr(save_parts, "LEAST_PART_BYTES", 100)
    state = whole_state()
    variables = tuple(_shaped(variable, state) for variable in GRAPH.variables)
    graph = replace(GRAPH, variables=variables, tables=ShardedTables())
    alone, together = (open_location(str(tmp_path / name)) for name in ("alone", "together"))
    upload(bundle_contents(state, graph, PREFIX), alone)
    written: list[set[str]] = []
    reports = []
    for rank in range(ranks):
        # What is local to a rank may differ from the first one's
        mine: dict[str, Any] = {
            **state.arrays,
            "local": np.float32(rank),
            "entry:table/keys": state.arrays["few"],
        }
        if rank == 0:
            mine = state.arrays
        own = own_part(replace(state, arrays=mine), graph, rank, ranks)
        written.append(set(own.arrays))
        bundle = part_bundle(own, graph, PREFIX, (rank, ranks))
        send_part([bundle.data()], together)
        reports.append(bundle.report())
    send_index(PREFIX, reports[::-1], together)

    assert held(together, PREFIX) == held(alone, PREFIX)
    assert sorted(name for names in written for name in names) == sorted(state.arrays)
    assert {"entry:table/keys", "local"} <= written[0]
    assert sum(map(bool, written)) == min(ranks, 5)  # some 600 bytes of which each takes 100


def _shaped(variable: Variable, state: State) -> Variable:
    shape = np.shape(state.arrays[variable.name])
    return replace(variable, shape=shape, local=variable.name == "local")


def test_rows_that_are_not_as_many_as_the_block_has_are_refused() -> None:
    one, *_ = shared(whole_state(), 3)

    with pytest.raises(OutputError, match="rank 2 of 3 holds 3 rows, and its block has 4"):
        part_bundle(replace(one, share=(2, 3)), GRAPH, PREFIX, (2, 3))
