"""Which tables can be divided among workers, what is against the others, and what becomes of the
graph?
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inspect import inspect
from orchestrator.graph.plan import plan
from orchestrator.graph.tables.sharding import find_shardable, shard_tables
from orchestrator.graph.tables.shares import shares
from orchestrator.graph.worker_graph import WorkerGraph
from tests import forked
from tests.graph.tables.graphs import ROWS, WIDTH

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hard")
    done = forked.run("tests.graph.tables.hard_tables", made)
    assert done.returncode == 0, done.stderr[-4000:]
    return made


def planned(path: Path, workers: int = 3, **config: Any) -> WorkerGraph:
    meta = read_meta(path.read_bytes(), name=str(path))
    found = plan(meta, RunConfig(source=str(path), workers=workers, input="tests:none", **config))
    assert found.worker_graph is not None, found.errors
    return found.worker_graph


def nodes(graph: WorkerGraph) -> dict[str, NodeDef]:
    return {node.name: node for node in MetaGraphDef.FromString(graph.meta).graph_def.node}


@pytest.mark.parametrize(
    ("name", "table", "said", "workers"),
    [
        ("chained", "second", "ids that follow from rows of another one, table", 3),
        ("looped", "table", "", 3),
        ("scaled", "table", "each batch has its own of", 3),
        ("written", "table", "which writes state", 1),
    ],
)
def test_table_whose_rows_cannot_be_fetched_first_stays_whole_and_the_node_is_named(
    room: Path, name: str, table: str, said: str, workers: int
) -> None:
    graph = planned(room / f"{name}.meta", workers)
    found = find_shardable(graph)

    assert table not in {one.name for one in found.tables}
    assert said in found.wholes[table].why
    assert found.wholes[table].node in nodes(graph)


def test_table_that_says_which_rows_of_another_are_wanted_can_be_divided_itself(room: Path) -> None:
    found = find_shardable(planned(room / "chained.meta"))

    assert [table.name for table in found.tables] == ["table"]


def test_lookup_that_waits_for_a_counter_can_be_fed_where_a_group_lets_it_wait_for_nothing(
    room: Path,
) -> None:
    path = room / "after_a_write.meta"
    meta = read_meta(path.read_bytes(), name=str(path))
    told = inspect(meta, source=str(path), size_bytes=1)

    assert [table.name for table in find_shardable(planned(path)).tables] == ["table"]
    assert told.shares is not None
    assert [table.name for table in told.shares.tables] == ["table"]


def test_divided_graph_has_variables_of_no_stated_rows_and_lookups_of_what_is_fed(
    room: Path,
) -> None:
    whole = planned(room / "by_coordinates.meta")
    graph = shard_tables(whole, find_shardable(whole).tables)
    after = nodes(graph)
    (part,) = graph.tables.parts

    assert part.members == ("table", "table/Adagrad")
    assert (part.rows, part.row_shape) == (ROWS, (WIDTH,))
    assert all(after[name].attr["shape"].shape.unknown_rank for name in part.members)
    lookups = [lookup for read in graph.tables.reads for lookup in read.lookups]
    assert sorted(lookup.coordinates for lookup in lookups) == [False, True]
    for read in graph.tables.reads:
        for lookup in read.lookups:
            assert list(after[lookup.node].input)[:2] == [
                read.rows.removesuffix(":0"),
                lookup.positions.removesuffix(":0"),
            ]
    assert nodes(whole)["table"].attr["shape"].shape.dim[0].size == ROWS


def test_table_that_is_asked_for_its_rows_answers_with_those_of_all_workers(room: Path) -> None:
    whole = planned(room / "asked.meta")
    graph = shard_tables(whole, find_shardable(whole).tables)
    asking = [name for name, node in nodes(whole).items() if node.op == "Shape"]
    answers = [nodes(graph)[name] for name in asking if nodes(graph)[name].op == "Const"]

    assert graph.tables
    assert answers
    for answer in answers:
        assert answer.attr["value"].tensor.tensor_shape.dim[0].size == 2


def test_ids_that_python_gives_are_asked_for_once_for_each_batch(room: Path) -> None:
    called = "tests.graph.tables.hard_tables:given"
    whole = planned(room / "called_python.meta", py_func={"pyfunc_0": called})
    graph = shard_tables(whole, find_shardable(whole).tables)
    (drawn,) = graph.tables.drawn
    takers = [
        name for name, node in nodes(graph).items() if drawn.fetch.removesuffix(":0") in node.input
    ]

    assert not takers
    assert nodes(whole)[drawn.fetch.removesuffix(":0")].op == "PyFunc"


def test_summary_of_a_whole_table_is_not_shown_where_nobody_has_one(room: Path) -> None:
    whole = planned(room / "summarised.meta")
    graph = shard_tables(whole, find_shardable(whole).tables)

    assert {tag for tag, _ in whole.scalar_summaries} == {"norm", "loss"}
    assert [tag for tag, _ in graph.scalar_summaries] == ["loss"]


@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (0, 3), (1, 3), (2, 3), (6, 7)])
def test_blocks_follow_each_other_and_differ_by_one_row_at_most(
    room: Path, rank: int, world_size: int
) -> None:
    whole = planned(room / "asked.meta")
    (part,) = shard_tables(whole, find_shardable(whole).tables).tables.parts
    blocks = [part.block(each, world_size) for each in range(world_size)]
    sizes = {end - first for first, end in blocks}

    assert blocks[0][0] == 0
    assert blocks[-1][1] == ROWS
    assert all(one[1] == other[0] for one, other in pairwise(blocks))
    assert max(sizes) - min(sizes) <= 1
    assert part.block(rank, world_size)[1] > part.block(rank, world_size)[0]


def test_shares_say_what_a_worker_holds_and_how_many_workers_it_takes(room: Path) -> None:
    graph = planned(room / "asked.meta")
    found = shares(find_shardable(graph), graph.variables)
    row_bytes = 2 * WIDTH * 4
    (table,) = found.tables

    assert (table.name, table.rows, table.slots) == ("table", ROWS, 1)
    assert table.size_bytes == ROWS * row_bytes
    rest = found.of_worker(1) - table.size_bytes
    assert found.of_worker(3) == rest + 7 * row_bytes
    enough = found.smallest_group(found.host_bytes(4, gpu=False), gpu=False)
    assert enough == 4
    assert found.smallest_group(rest, gpu=False) is None
    assert found.smallest_group(1 << 40, gpu=False) == 1
