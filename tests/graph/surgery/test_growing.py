"""Which tables may grow, and what stands in the graph then?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.driver.edited_graph import edited_graph
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.graphdef.undo import without_edits
from orchestrator.graph.plan import plan
from orchestrator.graph.variables.saver import read_saver
from orchestrator.graph.variables.variables import find_variables
from orchestrator.store.checkpoints.source import resolve_source
from tests.graph.surgery.test_operation import edited, graph_of, same
from tests.graph.tf_import import import_error
from tests.graphs.library import CheckpointLibrary

pytestmark = pytest.mark.tf
TABLE = "embedding/table"


def shapes(meta: Any) -> dict[str, tuple[tuple[int | None, ...] | None, str]]:
    graph = Editor(meta).graph(merged(meta))
    found = find_variables(graph, read_saver(graph), None, set())
    return {one.name: (one.shape, one.slice_spec) for one in found}


@pytest.mark.parametrize("resource", [False, True])
def test_table_and_slots_grow_told_and_for_good(
    tf1_checkpoint: CheckpointLibrary, resource: bool
) -> None:
    prefix = tf1_checkpoint("embedding", optimizer="adam", resource=resource)
    before = graph_of(prefix)
    found = edited(prefix, grow={TABLE: 30})
    again = edited(prefix, found.meta, grow={TABLE: 30})
    grown = {TABLE, f"{TABLE}/Adam", f"{TABLE}/Adam_1"}

    assert not found.problems
    assert found.done == (
        f"grew {TABLE} from 20 to 30 rows, and its slots {TABLE}/Adam, {TABLE}/Adam_1",
    )
    assert found.loading.grown == grown
    assert {name: shape for name, (shape, _) in shapes(found.meta).items() if name in grown} == (
        dict.fromkeys(grown, (30, 8))
    )
    assert found.checkpoint is not None
    assert found.checkpoint[TABLE].shape == (30, 8)
    assert import_error(found.meta) is None
    assert same(without_edits(found.meta), found.meta)  # rows that were trained stay
    assert again.done == (f"left {TABLE} at the 30 rows that it has",)
    assert again.loading.grown == grown
    assert same(again.meta, found.meta)
    assert same(before, graph_of(prefix))


def test_what_is_edited_beside_is_undone_and_the_rows_stay(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    prefix = tf1_checkpoint("embedding", optimizer="momentum")
    alone = edited(prefix, grow={TABLE: 30})
    both = edited(prefix, grow={TABLE: 30}, swap_optimizer="adam", freeze=["out"])

    assert both.done[0].startswith("grew")
    assert len(both.done) == 3
    assert shapes(both.meta)[f"{TABLE}/Adam"][0] == (30, 8)
    assert same(without_edits(both.meta), alone.meta)


def test_only_part_of_a_table_grows_under_either_name(tf1_checkpoint: CheckpointLibrary) -> None:
    prefix = tf1_checkpoint("embedding", optimizer="adagrad", partitions=1)
    part = f"{TABLE}/part_0"
    found = edited(prefix, grow={TABLE: 30})

    assert same(found.meta, edited(prefix, grow={part: 30}).meta)
    shape, spec = shapes(found.meta)[part]
    assert shape == (30, 8)
    assert spec.split()[:2] == ["30", "8"]
    assert import_error(found.meta) is None


def test_later_start_of_a_run_grows_what_the_run_itself_saved(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    prefix = tf1_checkpoint("embedding", optimizer="adagrad")
    keys = resolve_source(str(prefix)).keys()
    config = RunConfig(source=str(prefix), input="tests:none", grow={TABLE: 30})
    found = edited_graph(graph_of(prefix), config, keys, of_this_run=True)
    planned = plan(found.meta, config, checkpoint=found.checkpoint, loading=found.loading)

    assert "as asked: grew embedding/table from 20 to 30 rows" in found.problems[0].message
    assert planned.worker_graph is not None
    assert planned.worker_graph.loading.of_own().grown == {TABLE, f"{TABLE}/Adagrad"}


REFUSED = [
    ({}, {"nothing": 30}, "no variable of the graph fits it", "nothing"),
    ({}, {TABLE: 19}, "rows aren't taken away", TABLE),
    ({}, {"out/kernel": 30}, "multiplies by all its rows", ""),
    ({}, {f"{TABLE}/Adam": 30}, "grows with its table", f"{TABLE}/Adam"),
    ({"partitions": 2}, {TABLE: 30}, "2 parts", f"{TABLE}/part_0"),
    ({"partitions": 2}, {f"{TABLE}/part_1": 30}, "2 parts", f"{TABLE}/part_0"),
]


@pytest.mark.parametrize(("options", "grow", "said", "node"), REFUSED)
def test_what_cannot_grow_is_refused_with_the_node(
    tf1_checkpoint: CheckpointLibrary,
    options: dict[str, Any],
    grow: dict[str, int],
    said: str,
    node: str,
) -> None:
    prefix = tf1_checkpoint("embedding", optimizer="adam", **options)
    found = edited(prefix, grow=grow)

    (problem,) = found.problems
    assert (problem.code, problem.severity) == ("edit-refused", "error")
    assert said in problem.message
    assert any(one.startswith(node) for one in problem.nodes)
    assert same(found.meta, graph_of(prefix))


def test_tables_of_wide_and_deep_and_of_word2vec_grow_and_are_imported(corpus: Path) -> None:
    rows = [row.split("\t")[0] for row in (corpus / "corpus.tsv").read_text().splitlines()[1:]]
    grown = 0
    for entry in rows:
        meta = graph_of(corpus / entry)
        names = shapes(meta)
        wanted = [
            name
            for name in names
            if name in ("embeddings/Variable", "rnnlm/embedding")
            or name.endswith("linear_model/occupation/weights/part_0")
        ]
        for name in wanted:
            rows_now = (names[name][0] or (0,))[0] or 0
            config = RunConfig(source=entry, grow={name: rows_now + 7})
            found = edited_graph(meta, config, None)
            errors = [one.message for one in found.problems if one.severity == "error"]
            assert not errors, errors
            assert import_error(found.meta) is None
            grown += 1
    assert grown == 3
