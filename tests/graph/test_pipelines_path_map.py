"""File names that moved are replaced wherever they stand in a graph."""

from __future__ import annotations

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.types_pb2 import DT_STRING

from orchestrator.graph.inputs.path_map import remap_paths, remote_paths, unused_prefixes


def constant(node: NodeDef, *values: str) -> None:
    node.op = "Const"
    node.attr["dtype"].type = DT_STRING
    node.attr["value"].tensor.dtype = DT_STRING
    node.attr["value"].tensor.string_val.extend(value.encode() for value in values)


def strings(node: NodeDef) -> list[str]:
    return [value.decode() for value in node.attr["value"].tensor.string_val]


def graph_with_files() -> MetaGraphDef:
    meta = MetaGraphDef()
    constant(meta.graph_def.node.add(name="files"), "/old/a.csv", "/old/b.csv", "/elsewhere/c.csv")
    function = meta.graph_def.library.function.add()
    function.signature.name = "factory"
    constant(function.node_def.add(name="vocabulary"), "/old/words/list.txt")
    meta.collection_def["asset_filepaths"].node_list.value.append("files:0")
    return meta


def test_remap_with_a_prefix_changes_graph_and_function_bodies() -> None:
    meta = graph_with_files()
    moved = remap_paths(meta, {"/old/": "/new/place/"})
    assert strings(meta.graph_def.node[0]) == [
        "/new/place/a.csv",
        "/new/place/b.csv",
        "/elsewhere/c.csv",
    ]
    assert strings(meta.graph_def.library.function[0].node_def[0]) == ["/new/place/words/list.txt"]
    assert [(path.node, path.old) for path in moved] == [
        ("files", "/old/a.csv"),
        ("files", "/old/b.csv"),
        ("vocabulary (in function factory)", "/old/words/list.txt"),
    ]


def test_remap_with_two_fitting_prefixes_takes_the_longer() -> None:
    meta = graph_with_files()
    remap_paths(meta, {"/old/": "/a/", "/old/words/": "/b/"})
    assert strings(meta.graph_def.library.function[0].node_def[0]) == ["/b/list.txt"]


def test_remap_without_prefixes_changes_nothing() -> None:
    meta = graph_with_files()
    before = meta.SerializeToString(deterministic=True)
    assert remap_paths(meta, {}) == ()
    assert meta.SerializeToString(deterministic=True) == before


def test_unused_prefix_is_told() -> None:
    meta = graph_with_files()
    path_map = {"/old/": "/new/", "/odl/": "/new/"}
    (problem,) = unused_prefixes(path_map, remap_paths(meta, path_map))
    assert problem.code == "path-map-unused"
    assert problem.severity == "warning"
    assert "/odl/" in problem.message


def test_remote_paths_after_a_remap_to_a_url_are_those_below_it() -> None:
    meta = graph_with_files()
    path_map = {"/old/": "gs://bucket/data/", "/elsewhere/": "/here/"}
    remap_paths(meta, path_map)
    assert remote_paths(path_map, meta) == (
        "gs://bucket/data/a.csv",
        "gs://bucket/data/b.csv",
        "gs://bucket/data/words/list.txt",
    )
