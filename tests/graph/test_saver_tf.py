"""Are checkpoint keys read out of the saver's constants, whatever kind of saver wrote the graph?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.variables.saver import SavedAs, SaverKeys, read_saver
from orchestrator.graph.variables.variables import find_variables

pytestmark = pytest.mark.tf


def exported(build: Any, **options: Any) -> tuple[Graph, SaverKeys]:
    """The graph that ``build`` makes, with a Saver over what it returns, as ``Saver.save`` writes
    its ``.meta``.
    """
    import tensorflow

    tf = tensorflow.compat.v1
    with tf.Graph().as_default():
        saver = tf.train.Saver(build(tf), **options)
        meta = read_meta(saver.export_meta_graph().SerializeToString(), name="saved")
    graph = Graph(meta, merged(meta))
    return graph, read_saver(graph)


def two(tf: Any, resource: bool) -> None:
    tf.get_variable("a/w", [2, 3], use_resource=resource)
    tf.get_variable("b", [], tf.int64, initializer=tf.zeros_initializer(), use_resource=resource)


@pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])
@pytest.mark.parametrize(
    "options",
    [{}, {"sharded": True}, {"reshape": True}, {"write_version": 1}],
    ids=lambda value: str(value),
)
def test_saver_keys_of_every_kind_of_saver_are_found(
    resource: bool, options: dict[str, Any]
) -> None:
    _, found = exported(lambda tf: two(tf, resource), **options)
    assert found.variables == {"a/w": SavedAs("a/w"), "b": SavedAs("b")}
    assert found.found
    assert found.entries == ()


def test_saver_keys_given_by_the_author_are_kept() -> None:
    def build(tf: Any) -> dict[str, Any]:
        return {"old/name": tf.get_variable("new", [2], use_resource=False)}

    graph, found = exported(build)
    assert found.variables == {"new": SavedAs("old/name")}
    (variable,) = find_variables(graph, found, None, set())
    assert variable.key == "old/name"


def test_saver_keys_of_a_partitioned_variable_name_their_slices() -> None:
    def build(tf: Any) -> None:
        with tf.variable_scope("emb", partitioner=tf.fixed_size_partitioner(2)):
            tf.get_variable("table", [8, 4], use_resource=False)

    graph, found = exported(build)
    first, second = find_variables(graph, found, None, set())
    assert first.key == second.key == "emb/table"
    assert (first.slice_spec, second.slice_spec) == ("8 4 0,4:0,4", "8 4 4,4:0,4")
    assert first.saved_shape == (8, 4)


def test_saver_keys_beside_variables_are_entries_with_their_restore_operation() -> None:
    def build(tf: Any) -> None:
        from tensorflow.python.ops import lookup_ops

        tf.get_variable("w", [2], use_resource=False)
        lookup_ops.MutableHashTable(tf.int64, tf.int64, -1, name="words")

    _, found = exported(build)
    assert set(found.variables) == {"w"}
    keys, values = sorted(entry.key for entry in found.entries)
    assert keys.endswith("-keys")
    assert values.endswith("-values")
    assert {entry.dtype for entry in found.entries} == {"int64"}
    assert len({entry.restore_op for entry in found.entries}) == 1


def test_variable_that_the_saver_leaves_out_has_no_key_but_a_name() -> None:
    def build(tf: Any) -> list[Any]:
        two(tf, False)
        return [variable for variable in tf.global_variables() if variable.op.name == "b"]

    graph, found = exported(build)
    described = {variable.name: variable for variable in find_variables(graph, found, None, set())}
    assert described["b"].key == "b"
    assert described["a/w"].key is None
    assert described["a/w"].initializer == "a/w/Assign"


def test_graph_without_a_saver_goes_by_variable_names() -> None:
    graph, _ = exported(lambda tf: two(tf, False))
    graph.meta.ClearField("saver_def")
    described = find_variables(graph, read_saver(graph), None, set())
    assert [variable.key for variable in described] == ["a/w", "b"]
