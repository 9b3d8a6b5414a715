"""Which tables does ``--shard-tables`` divide, what does it refuse, and what is said of it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import GraphPlan, plan
from orchestrator.graph.tables.sharding import find_shardable
from orchestrator.graph.tables.shares import shares
from orchestrator.graph.variables.memory import FreeMemory
from tests import forked
from tests.graph.tables.graphs import ROWS

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hard")
    done = forked.run("tests.graph.tables.hard_tables", made)
    assert done.returncode == 0, done.stderr[-4000:]
    return made


def planned(
    path: Path, asked: Any, memory: FreeMemory | None = None, workers: Any = 3, **config: Any
) -> GraphPlan:
    meta = read_meta(path.read_bytes(), name=str(path))
    made = RunConfig(
        source=str(path), workers=workers, input="tests:none", shard_tables=asked, **config
    )
    return plan(meta, made, memory=memory)


def only(found: GraphPlan, code: str) -> Any:
    (problem,) = (one for one in found.problems if one.code == code)
    return problem


@pytest.mark.parametrize(("asked", "divided"), [([], ()), ("none", ()), ("table", ("table",))])
def test_named_tables_are_divided_and_no_others(
    room: Path, asked: Any, divided: tuple[str, ...]
) -> None:
    found = planned(room / "asked.meta", asked)

    assert found.worker_graph is not None
    assert found.worker_graph.tables.names == divided
    assert found.whole is not None
    assert not found.whole.tables
    if divided:
        said = only(found, "tables-sharded")
        assert said.severity == "warning"
        assert "divided by row among the workers (as asked): table" in said.message
        assert f"each of {3} holds at most" in said.message


def test_table_under_an_import_scope_goes_by_its_key_and_by_both_of_its_names(room: Path) -> None:
    scoped = [
        planned(room / "asked.meta", name, import_scope="other")
        for name in ("table", "other/table")
    ]

    for found in scoped:
        assert found.worker_graph is not None, found.errors
        (part,) = found.worker_graph.tables.parts
        assert (part.table, part.variable) == ("table", "other/table")


@pytest.mark.parametrize(
    ("name", "asked", "said", "remedy"),
    [
        (
            "chained",
            ["second"],
            "second: it's needed whole: embedding_lookup_1",
            "Leave second out",
        ),
        ("asked", ["table/Adagrad"], "it's a slot of table", "Name table"),
        ("asked", ["tabel"], "no variable of that name", "There are table"),
        ("asked", ["table", "nothing"], "--shard-tables nothing", "There are"),
    ],
)
def test_name_that_cannot_be_divided_is_refused_with_the_node_and_what_to_do(
    room: Path, name: str, asked: list[str], said: str, remedy: str
) -> None:
    found = planned(room / f"{name}.meta", asked)
    problem = only(found, "not-shardable")

    assert found.worker_graph is None
    assert problem.severity == "error"
    assert said in problem.message
    assert remedy in problem.remedy


def test_table_of_fewer_rows_than_workers_is_refused(room: Path) -> None:
    found = planned(room / "asked.meta", "table", workers=ROWS + 1)

    assert (
        f"has {ROWS} rows, too few for {ROWS + 1} workers" in only(found, "not-shardable").message
    )
    assert planned(room / "asked.meta", "table", workers=ROWS).worker_graph is not None


def test_exchange_that_moves_no_rows_refuses_and_one_worker_says_that_nothing_is_divided(
    room: Path,
) -> None:
    by_nccl = planned(room / "asked.meta", "table", exchange="nccl")
    alone = planned(room / "asked.meta", "table", workers=1)

    assert "--exchange nccl" in only(by_nccl, "not-shardable").message
    assert by_nccl.worker_graph is None
    assert "one worker holds all rows" in only(alone, "tables-sharded").message
    assert alone.worker_graph is not None
    assert not alone.worker_graph.tables


def test_auto_divides_only_what_a_worker_has_no_room_for(room: Path) -> None:
    graph = planned(room / "asked.meta", [])
    assert graph.whole is not None
    found = shares(find_shardable(graph.whole), graph.whole.variables)
    enough, little = (found.host_bytes(size, gpu=False) for size in (1, 3))

    def chosen(memory: FreeMemory | None, **config: Any) -> tuple[str, ...]:
        after = planned(room / "asked.meta", "auto", memory, **config)
        assert after.worker_graph is not None
        return after.worker_graph.tables.names

    assert chosen(FreeMemory(3 * enough, 3)) == ()
    assert chosen(FreeMemory(3 * enough - 3, 3)) == ("table",)
    assert chosen(None, workers={"count": 3, "memory_bytes": little}) == ("table",)
    told = planned(room / "asked.meta", "auto", FreeMemory(3 * little, 3))
    assert "a worker may have" in only(told, "tables-sharded").message
    assert told.worker_graph is not None
    assert told.worker_graph.tables.fewest == 3  # a group of two would have no room
    assert sum(0 if one.shape is None else 1 for one in told.held) == len(told.held)
    unknown = planned(room / "asked.meta", "auto")
    assert "isn't known" in only(unknown, "tables-sharded").message


def test_auto_and_none_stand_alone() -> None:
    for word in ("auto", "none"):
        with pytest.raises(ValueError, match="stand alone"):
            RunConfig(source="a", shard_tables=[word, "table"])


def test_copies_are_counted_in_what_each_worker_holds_and_in_how_many_it_takes(room: Path) -> None:
    graph = planned(room / "asked.meta", [])
    assert graph.whole is not None
    found, variables = find_shardable(graph.whole), graph.whole.variables
    once, twice = (shares(found, variables, copies) for copies in (1, 2))
    assert twice.of_worker(1) == twice.of_worker(2) == once.of_worker(1)
    assert twice.of_worker(4) == once.of_worker(2)
    room_of_two = once.host_bytes(2, gpu=False)
    assert once.smallest_group(room_of_two, gpu=False) == 2
    assert twice.smallest_group(room_of_two, gpu=False) == 4

    made = planned(
        *(room / "asked.meta", "auto"),
        workers={"count": 4, "memory_bytes": room_of_two},
        table_copies=2,
    )
    assert made.worker_graph is not None
    assert (made.worker_graph.tables.copies, made.worker_graph.tables.fewest) == (2, 4)
    assert "each row held by two" in only(made, "tables-sharded").message


@pytest.mark.parametrize("asked", [[], "none"])
def test_copies_of_tables_that_are_not_divided_are_refused(room: Path, asked: Any) -> None:
    found = planned(room / "asked.meta", asked, table_copies=2)

    problem = only(found, "not-shardable")
    assert found.worker_graph is None
    assert "--table-copies has no meaning" in problem.message
    assert "--shard-tables" in problem.remedy
    assert planned(room / "asked.meta", asked, table_copies=1).worker_graph is not None


def test_copies_are_one_or_two() -> None:
    for copies in (0, 3):
        with pytest.raises(ValueError, match="1 or 2"):
            RunConfig(source="a", table_copies=copies)
