"""What a run would execute and that reaches files, code or sockets is refused unless it was
declared.
"""

from __future__ import annotations

import pytest
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.types_pb2 import DT_STRING

from orchestrator.config import RunConfig
from orchestrator.graph.check import check
from orchestrator.graph.external_access import UntrustedOp, untrusted_ops, untrusted_problems
from orchestrator.graph.graphdef import opset
from orchestrator.graph.graphdef.external_ops import reach_of, reaches_out
from tests.graph.fuzzing import seed_graphs

OPS = opset.installed()


def _constant(graph: GraphDef, name: str, *values: str) -> str:
    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = DT_STRING
    tensor = node.attr["value"].tensor
    tensor.dtype = DT_STRING
    if len(values) != 1:
        tensor.tensor_shape.dim.add(size=len(values))
    tensor.string_val.extend(value.encode() for value in values)
    return name


def _node(graph: GraphDef, op: str, *inputs: str, name: str = "it") -> NodeDef:
    return graph.node.add(name=name, op=op, input=inputs)


def _only(found: tuple[UntrustedOp, ...]) -> UntrustedOp:
    (item,) = found
    return item


@pytest.mark.parametrize(
    ("op_type", "reach"),
    [
        ("ReadFile", "reads files"),
        ("ReaderReadV2", "reads files"),
        ("TFRecordDatasetV2", "reads files"),
        ("InitializeTableFromTextFileV2", "reads files"),
        ("FixedUnigramCandidateSampler", "reads files"),
        ("ImmutableConst", "reads files"),
        ("WriteFile", "writes files"),
        ("SaveV2", "writes files"),
        ("CreateSummaryFileWriter", "writes files"),
        ("PyFunc", "runs code"),
        ("EagerPyFunc", "runs code"),
        ("RpcClient", "opens sockets"),
        ("DataServiceDatasetV4", "opens sockets"),
        ("MatMul", None),
        ("TextLineReaderV2", None),
        ("ShardedFilename", None),
        ("VarHandleOp", None),
        ("DecodeCSV", None),
    ],
)
def test_reach_of_operation_types_tells_what_they_do_out_there(
    op_type: str, reach: str | None
) -> None:
    assert reach_of(op_type, OPS.get(op_type)) == reach


def test_reach_of_an_operation_that_only_the_graph_describes_is_judged_by_its_arguments() -> None:
    meta = MetaGraphDef()
    meta.meta_info_def.stripped_op_list.op.add(name="KafkaDataset").input_arg.add(
        name="servers", type=DT_STRING
    )
    meta.meta_info_def.stripped_op_list.op.add(name="ReadOddities").attr.add(
        name="filename", type="string"
    )
    ops = opset.merged(meta)
    assert reach_of("KafkaDataset", ops.get("KafkaDataset")) == "opens sockets"
    assert reach_of("ReadOddities", ops.get("ReadOddities")) == "reads files"


@pytest.mark.parametrize(
    ("op_type", "attribute", "value", "acts"),
    [
        ("PrintV2", "output_stream", b"stderr", False),
        ("PrintV2", "output_stream", b"file:///etc/cron.d/x", True),
        ("FixedUnigramCandidateSampler", "vocab_file", b"", False),
        ("FixedUnigramCandidateSampler", "vocab_file", b"/data/vocab", True),
        ("DecodeProtoV2", "descriptor_source", b"local://", False),
        ("DecodeProtoV2", "descriptor_source", b"/tmp/d.pb", True),
        ("ImmutableConst", "memory_region_name", b"/etc/passwd", True),
    ],
)
def test_reaches_out_of_an_operation_with_a_harmless_form_depends_on_its_attribute(
    op_type: str, attribute: str, value: bytes, acts: bool
) -> None:
    node = NodeDef(op=op_type)
    node.attr[attribute].s = value
    assert reaches_out(node) is acts


def test_untrusted_ops_of_an_executed_reader_names_its_file_and_is_a_problem() -> None:
    graph = GraphDef()
    _node(graph, "ReadFile", _constant(graph, "name", "/etc/passwd"))
    item = _only(untrusted_ops(graph, OPS, {"it", "name"}))
    assert (item.nodes, item.idle, item.names, item.declared) == (
        ("it",),
        (),
        ("/etc/passwd",),
        False,
    )
    (problem,) = untrusted_problems([item])
    assert problem.code == "untrusted-op"
    assert "/etc/passwd" in problem.message
    assert "--allow-op ReadFile" in problem.remedy


def test_untrusted_ops_of_a_reader_that_nothing_runs_is_listed_and_no_problem() -> None:
    graph = GraphDef()
    _node(graph, "ReadFile", _constant(graph, "name", "/etc/passwd"))
    item = _only(untrusted_ops(graph, OPS, {"other"}))
    assert (item.nodes, item.idle) == ((), ("it",))
    assert untrusted_problems([item]) == ()


def test_untrusted_ops_in_a_function_body_count_where_an_executed_node_calls_it() -> None:
    graph = GraphDef()
    inner = graph.library.function.add()
    inner.signature.name = "inner"
    inner.node_def.add(name="write", op="WriteFile")
    outer = graph.library.function.add()
    outer.signature.name = "outer"
    outer.node_def.add(name="call", op="inner")
    _node(graph, "MapDataset").attr["f"].func.name = "outer"
    assert _only(untrusted_ops(graph, OPS, {"it"})).nodes == ("write (in function inner)",)
    assert _only(untrusted_ops(graph, OPS, set())).idle == ("write (in function inner)",)


def test_untrusted_ops_allowed_by_type_are_no_problem() -> None:
    graph = GraphDef()
    _node(graph, "WriteFile", _constant(graph, "name", "/tmp/x"), "name")
    assert untrusted_problems(untrusted_ops(graph, OPS, None, allow=["WriteFile"])) == ()
    assert len(untrusted_problems(untrusted_ops(graph, OPS, None, allow=["ReadFile"]))) == 1


def test_untrusted_ops_whose_files_are_all_mapped_are_declared() -> None:
    graph = GraphDef()
    _node(
        graph,
        "TFRecordDataset",
        _constant(graph, "names", "/old/a", "/old/b"),
        _constant(graph, "c", ""),
        "names",
    )
    assert _only(untrusted_ops(graph, OPS, None, path_map={"/old/": "gs://b/"})).declared
    assert not _only(untrusted_ops(graph, OPS, None, path_map={"/old/a": "gs://b/"})).declared


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("/data/a", True),
        ("/data/b/../a", True),
        ("file:///data/a", True),
        ("/data//a", True),
        ("gs://b/data/a", True),
        ("/data/../etc/passwd", False),
        ("/data/b/../../etc/passwd", False),
        ("file:///data/../etc/passwd", False),
        ("/datum", False),
        ("gs://b/data/../secret/a", False),
        ("gs://b/data/%2e%2e/secret/a", False),
        ("../data/a", False),
        ("data/a", False),
    ],
)
def test_path_map_declares_what_lies_below_it_once_every_step_upwards_is_followed(
    name: str, declared: bool
) -> None:
    graph = GraphDef()
    _node(graph, "ReadFile", _constant(graph, "name", name))
    mapped = {"/old/": "/data/", "/older/": "gs://b/data/"}
    assert _only(untrusted_ops(graph, OPS, None, path_map=mapped)).declared is declared


def test_path_map_declares_reading_and_never_writing() -> None:
    """A graph that names a mapped directory could have overwritten what lies in it."""
    graph = GraphDef()
    _node(graph, "ReadFile", _constant(graph, "name", "/data/a"), name="read")
    _node(graph, "WriteFile", "name", "name", name="write")
    _node(graph, "Save", "name", "name", name="save")
    found = {
        item.op_type: item.declared
        for item in untrusted_ops(graph, OPS, None, path_map={"/old/": "/data/"})
    }
    assert found == {"ReadFile": True, "WriteFile": False, "Save": False}


def test_untrusted_ops_of_a_reader_finds_the_file_names_in_its_queue() -> None:
    graph = GraphDef()
    _node(graph, "FIFOQueueV2", name="queue")
    _node(
        graph, "QueueEnqueueManyV2", "queue", _constant(graph, "names", "/old/a.csv"), name="fill"
    )
    _node(graph, "TextLineReaderV2", name="reader")
    _node(graph, "ReaderReadV2", "reader", "queue")
    assert _only(untrusted_ops(graph, OPS, None)).names == ("/old/a.csv",)
    assert _only(untrusted_ops(graph, OPS, None, path_map={"/old": "/new"})).declared


def test_untrusted_ops_of_a_py_func_with_a_function_of_its_own_is_declared() -> None:
    graph = GraphDef()
    _node(graph, "PyFunc").attr["token"].s = b"pyfunc_0"
    assert _only(untrusted_ops(graph, OPS, None, py_func={"pyfunc_0": "mine:parse"})).declared
    undeclared = _only(untrusted_ops(graph, OPS, None, py_func={"pyfunc_1": "mine:parse"}))
    assert not undeclared.declared
    assert "--py-func pyfunc_0=" in untrusted_problems([undeclared])[0].remedy


def test_untrusted_ops_of_a_cache_in_memory_is_harmless_and_of_one_in_a_file_not() -> None:
    graph = GraphDef()
    _node(graph, "RangeDataset", name="source")
    _node(graph, "CacheDataset", "source", _constant(graph, "name", ""))
    assert untrusted_ops(graph, OPS, None) == ()
    graph.node[1].attr["value"].tensor.string_val[0] = b"/tmp/cache"
    assert _only(untrusted_ops(graph, OPS, None)).reach == "writes files"


@pytest.mark.parametrize("name", seed_graphs())
def test_check_of_an_ordinary_graph_finds_only_its_savers_and_refuses_nothing_for_them(
    name: str,
) -> None:
    meta = MetaGraphDef.FromString(seed_graphs()[name])
    report = check(meta, RunConfig(source="x.meta", input="m:f", workers=1))
    assert {item.op_type for item in report.untrusted} <= {
        "SaveV2",
        "RestoreV2",
        "MergeV2Checkpoints",
    }
    assert [problem for problem in report.problems if problem.code == "untrusted-op"] == []


def test_check_of_a_graph_whose_train_op_writes_a_file_refuses_it() -> None:
    meta = MetaGraphDef.FromString(seed_graphs()["mlp"])
    train_op = meta.collection_def["train_op"].node_list.value[0]
    name = _constant(meta.graph_def, "evil/name", "/root/.ssh/authorized_keys")
    _node(meta.graph_def, "WriteFile", name, name, name="evil/write")
    next(node for node in meta.graph_def.node if node.name == train_op).input.append("^evil/write")
    for workers in (1, 2):
        refused = check(meta, RunConfig(source="x.meta", input="m:f", workers=workers))
        assert [problem.code for problem in refused.problems if problem.severity == "error"] == [
            "untrusted-op"
        ]
        assert not refused.resumes
        assert check(
            meta, RunConfig(source="x.meta", input="m:f", workers=workers, allow_op=["WriteFile"])
        ).resumes
