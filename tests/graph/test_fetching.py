"""Fetching a tensor needs its feeds and nothing that wasn't allowed; training's inputs don't
matter.
"""

from __future__ import annotations

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.variable_pb2 import VariableDef

from orchestrator.config import RunConfig
from orchestrator.graph.fetching import fetch_graph
from tests.graph.fuzzing import seed_graphs

STRING, INT64 = 7, 9
SEEDS = seed_graphs()


def _meta(name: str = "mlp") -> MetaGraphDef:
    return MetaGraphDef.FromString(SEEDS[name])


def _config(**values: object) -> RunConfig:
    return RunConfig.model_validate({"source": "x.meta", **values})


def test_fetch_graph_of_logits_needs_the_features_and_not_the_labels() -> None:
    found = fetch_graph(_meta(), _config(feed={"x": "[[1, 2, 3, 4, 5, 6]]"}), ["out/add"])
    assert found.graph is not None
    assert [port.name for port in found.graph.inputs] == ["x:0"]
    assert found.fetches == ("out/add:0",)


def test_fetch_graph_of_several_faults_names_them_all() -> None:
    meta = _meta()
    meta.graph_def.node.add(name="custom", op="MyOp")
    found = fetch_graph(meta, _config(), ["loss", "nothing"])
    assert found.graph is None
    assert [problem.code for problem in found.problems] == [
        "unknown-tensor",
        "missing-op",
        "unfed-placeholder",
    ]


def test_fetch_graph_of_a_tensor_behind_a_pipeline_cuts_it_there() -> None:
    found = fetch_graph(_meta("tfdata"), _config(input="m:f"), ["loss"])
    assert found.graph is not None
    assert {port.origin for port in found.graph.inputs} == {"iterator"}
    assert [
        problem.code for problem in fetch_graph(_meta("tfdata"), _config(), ["loss"]).problems
    ] == ["unfed-placeholder"]


def test_fetch_graph_of_an_operation_that_writes_files_has_to_be_allowed() -> None:
    meta = _meta()
    name = next(
        node.name
        for node in meta.graph_def.node
        if node.op == "Const" and node.attr["dtype"].type == 7
    )
    meta.graph_def.node.add(name="write", op="WriteFile", input=[name, name])
    after = meta.graph_def.node.add(name="after", op="Identity", input=[name, "^write"])
    after.attr["T"].type = 7
    assert [problem.code for problem in fetch_graph(meta, _config(), ["after"]).problems] == [
        "untrusted-op"
    ]
    assert fetch_graph(meta, _config(allow_op=["WriteFile"]), ["after"]).graph is not None


def test_fetch_graph_of_a_damaged_graph_stops_at_the_damage() -> None:
    meta = _meta()
    meta.graph_def.node[3].input.append("nowhere")
    assert [problem.code for problem in fetch_graph(meta, _config(), ["loss"]).problems] == [
        "unknown-input",
        "bad-inputs",
    ]


@pytest.mark.parametrize("where", ["variables", "local_variables", "saver", "table"])
def test_what_opening_a_graph_runs_has_to_be_allowed_too(where: str) -> None:
    """TensorFlow ran whatever stands where initialisers do: ``infer`` judged what it fetches alone."""
    meta = _meta()
    name = next(
        node.name
        for node in meta.graph_def.node
        if node.op == "Const" and node.attr["dtype"].type == 7
    )
    meta.graph_def.node.add(name="write", op="WriteFile", input=[name, name])
    fetched = "loss"
    if where == "saver":
        restore = meta.saver_def.restore_op_name
        next(node for node in meta.graph_def.node if node.name == restore).input.append("^write")
    elif where == "table":
        _with_table(meta, name)
        fetched = "asked"
    else:
        first = meta.collection_def["variables"].bytes_list.value[0]
        planted = VariableDef.FromString(first)
        planted.initializer_name = "write"
        meta.collection_def[where].bytes_list.value.append(planted.SerializeToString())
    refused = fetch_graph(meta, _config(input="m:f"), [fetched])
    assert refused.graph is None
    op = "InitializeTableFromTextFileV2" if where == "table" else "WriteFile"
    assert [problem.code for problem in refused.problems] == ["untrusted-op"]
    assert op in refused.problems[0].message
    allowed = fetch_graph(meta, _config(input="m:f", allow_op=[op]), [fetched])
    assert allowed.graph is not None
    assert allowed.graph.table_initializers == (("fill",) if where == "table" else ())


def test_table_that_is_not_looked_up_in_need_not_be_filled() -> None:
    """Its file is gone, and what is fetched doesn't need it."""
    meta = _meta()
    _with_table(meta, "save/Const")
    found = fetch_graph(meta, _config(input="m:f"), ["loss"])
    assert found.graph is not None
    assert found.graph.table_initializers == ()


def _with_table(meta: MetaGraphDef, file: str) -> None:
    """A table that a file fills, and what asks for its size."""
    table = meta.graph_def.node.add(name="table", op="HashTableV2")
    table.attr["key_dtype"].type = STRING
    table.attr["value_dtype"].type = INT64
    op = "InitializeTableFromTextFileV2"
    fill = meta.graph_def.node.add(name="fill", op=op, input=["table", file])
    fill.attr["key_index"].i, fill.attr["value_index"].i = -2, -1
    meta.graph_def.node.add(name="asked", op="LookupTableSizeV2", input=["table"])
    meta.collection_def["table_initializer"].node_list.value.append("fill")
