"""Which variables are found to be touched by row alone, and is that so?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.gradients.train_ops import choose_train_ops
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.importing.repair import repair
from orchestrator.graph.tables.find import RowTable, Tables, find_tables
from orchestrator.graph.variables.saver import read_saver
from orchestrator.graph.variables.variables import find_variables
from tests import forked
from tests.conftest import CORPUS
from tests.graph.tables.graphs import GRAPHS, KINDS, OPTIMIZERS, PARTS, ROWS, WIDTH

pytestmark = pytest.mark.turns(3)

Made = Callable[[str], MetaGraphDef]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tables")
    done = forked.run("tests.graph.tables.graphs", made)
    assert done.returncode == 0, done.stderr[-4000:]
    return made


@pytest.fixture(scope="module")
def alike(room: Path) -> dict[str, bool]:
    return dict(json.loads((room / "poisoned.json").read_text()))


def found_in(path: Path) -> Tables:
    repaired = repair(read_meta(path.read_bytes(), name=str(path)), RunConfig(source=str(path)))
    graph = Editor(repaired.meta).graph(repaired.ops)
    variables = find_variables(graph, read_saver(graph), None, set())
    trainable = {one.name for one in variables if one.trainable}
    targets = [target for target, _ in choose_train_ops(graph, trainable, ()).targets]
    return find_tables(graph, variables, targets)


def the_table(found: Tables) -> RowTable:
    (table,) = found.tables
    return table


SLOTS = {
    "sgd": [],
    "momentum": ["table/Momentum"],
    "adagrad": ["table/Adagrad"],
    "adam": ["table/Adam", "table/Adam_1"],
    "lazy_adam": ["table/Adam", "table/Adam_1"],
    "ftrl": ["table/Ftrl", "table/Ftrl_1"],
    "rmsprop": ["table/RMSProp", "table/RMSProp_1"],
    "centered": ["table/RMSProp", "table/RMSProp_1", "table/RMSProp_2"],
    "proximal": ["table/ProximalAdagrad"],
    "adadelta": ["table/Adadelta", "table/Adadelta_1"],
}


@pytest.mark.tf
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_table_of_each_optimizer_is_found_with_its_slots_and_bears_poison_in_other_rows(
    room: Path, alike: dict[str, bool], optimizer: str, kind: str
) -> None:
    found = found_in(room / f"{optimizer}-{kind}.meta")
    table = the_table(found)
    (part,) = table.parts

    assert (table.name, table.rows, table.row_shape) == ("table", ROWS, (WIDTH,))
    assert sorted(part.slots) == SLOTS[optimizer]
    assert [use.indices is not None for use in part.lookups] == [True]
    assert {use.variable for use in part.updates} == {"table", *part.slots}
    assert set(found.wholes) == {"out"}
    assert found.wholes["out"].op == "MatMul"
    assert alike[f"{optimizer}-{kind}"]


@pytest.mark.tf
@pytest.mark.parametrize(("optimizer", "strategy", "resource"), PARTS)
def test_parts_of_a_partitioned_table_are_one_table(
    room: Path, alike: dict[str, bool], optimizer: str, strategy: str, resource: bool
) -> None:
    name = f"parts-{optimizer}-{strategy}"
    table = the_table(found_in(room / f"{name}.meta"))

    assert (table.name, table.rows) == ("table", ROWS)
    assert [part.rows for part in table.parts] == [7, 7, 6]
    assert [part.variable for part in table.parts] == [f"table/part_{k}" for k in range(3)]
    assert all(len(part.slots) == 2 and len(part.lookups) == 1 for part in table.parts)
    assert alike[name]


@pytest.mark.tf
@pytest.mark.parametrize(
    ("name", "lookups"),
    [
        *((name, 1) for name in ("max_norm-0", "sparse-0", "sparse-2", "safe-0", "safe-2")),
        ("twice-0", 2),
        ("scaled", 1),  # the gather behind the product gives no gradient, and isn't run
        ("decayed-rate", 1),
    ],
)
def test_every_form_of_lookup_is_by_row(
    room: Path, alike: dict[str, bool], name: str, lookups: int
) -> None:
    table = the_table(found_in(room / f"{name}.meta"))

    assert table.rows == ROWS
    assert all(len(part.lookups) == lookups for part in table.parts)
    assert alike[name]


@pytest.mark.tf
@pytest.mark.parametrize("name", ["average", "average-resource"])
def test_averages_of_a_table_are_a_part_of_its_family(
    room: Path, alike: dict[str, bool], name: str
) -> None:
    (part,) = the_table(found_in(room / f"{name}.meta")).parts

    assert "table/ExponentialMovingAverage" in part.slots
    assert alike[name]


@pytest.mark.tf
@pytest.mark.parametrize("name", ["sampled", "sampled-resource-parts"])
def test_sampled_softmax_has_three_tables_whatever_is_computed_beside_the_step(
    room: Path, name: str
) -> None:
    found = found_in(room / f"{name}.meta")

    assert {(one.name, one.row_shape) for one in found.tables} == {
        ("words", (WIDTH,)),
        ("softmax", (WIDTH,)),
        ("biases", ()),
    }
    assert not found.wholes


@pytest.mark.tf
@pytest.mark.parametrize(
    ("name", "op", "said"),
    [
        ("decay", "L2Loss", "weight decay"),
        ("decay-resource", "L2Loss", "weight decay"),
        ("norm", "L2Loss", "weight decay"),
        ("softmax", "MatMul", "full softmax"),
        ("mean", "ApplyAdam", "all of its rows"),
        ("column", "ApplyAdam", "all of its rows"),
        ("mask", "Mul", "other numbers for each row"),
    ],
)
def test_table_that_something_needs_whole_is_none_and_names_who_needs_it(
    room: Path, name: str, op: str, said: str
) -> None:
    found = found_in(room / f"{name}.meta")

    assert not found.tables
    why = found.wholes["table"]
    assert (why.op, why.variable) == (op, "table")
    assert said in why.why


@pytest.mark.tf
def test_part_that_is_needed_whole_spoils_the_table(room: Path) -> None:
    found = found_in(room / "decay-parts.meta")

    assert not found.tables
    assert {name for name in found.wholes if name.startswith("table")} == {
        "table/part_0",
        "table/part_1",
    }
    assert "puts its rows together" in found.wholes["table/part_0"].why


@pytest.mark.tf
def test_whatever_poison_spreads_in_is_found_to_be_needed_whole(
    room: Path, alike: dict[str, bool]
) -> None:
    """What is taken for a table by mistake is caught: the poison shows in what isn't poisoned."""
    spread = {name for name, same in alike.items() if not same}

    assert {"norm", "softmax"} <= spread
    assert alike.keys() == {name for name in GRAPHS if not name.startswith("sampled")}
    for name in spread:
        assert not found_in(room / f"{name}.meta").tables, name


TABLES = {
    "native_country_embedding/embedding_weights": (1000, (8,)),
    "rnnlm/embedding": (65, (128,)),
    "linear/linear_model/education/weights": (16, (1,)),
    "embeddings/Variable": (603, (20,)),
    "biases/Variable": (603, ()),
}


@pytest.mark.slow
def test_tables_of_the_corpus_are_those_that_were_found_by_eye(corpus: Path) -> None:
    rows = [row.split("\t")[0] for row in (corpus / "corpus.tsv").read_text().splitlines()[1:]]
    found = {entry: found_in(CORPUS / f"{entry}.meta") for entry in rows}
    counts = {entry: len(each.tables) for entry, each in found.items() if each.tables}
    shapes = {one.name: (one.rows, one.row_shape) for each in found.values() for one in each.tables}

    assert sorted(counts.values()) == [1, 3, 5, 9]
    for name, shape in TABLES.items():
        assert shape in [value for key, value in shapes.items() if key.endswith(name)], name
    for each in found.values():
        for name, why in each.wholes.items():
            assert why.node, name
            assert why.why, name
    reasons = [why.why for each in found.values() for why in each.wholes.values()]
    assert sum("a layer or a full softmax" in why for why in reasons) == 72
    assert not any("isn't known" in why for why in reasons)
