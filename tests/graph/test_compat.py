"""What the installed TensorFlow can't import is found in one go; what can be mended without
changing the meaning is mended.
"""

from __future__ import annotations

from random import Random

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef import opset
from orchestrator.graph.graphdef.library import every_node
from orchestrator.graph.importing.compat import (
    compat_problems,
    compatibility,
    kernel_problems,
)
from orchestrator.graph.importing.mending import mend
from orchestrator.graph.importing.soundness import soundness_problems
from orchestrator.graph.importing.versions import is_version, readable_version
from tests.graph.fuzzing import PROTO_MUTATIONS, seed_graphs

SEEDS = seed_graphs()


def _meta(name: str = "mlp") -> MetaGraphDef:
    return MetaGraphDef.FromString(SEEDS[name])


def _mended(meta: MetaGraphDef, *, force: bool = False) -> tuple[MetaGraphDef, tuple[str, ...]]:
    return mend(meta, opset.merged(meta), force=force)


def _codes(meta: MetaGraphDef) -> list[str]:
    return [
        problem.code
        for problem in (
            *compat_problems(meta, opset.merged(meta)),
            *soundness_problems(meta, opset.merged(meta)),
        )
    ]


def _first(meta: MetaGraphDef, op_type: str) -> object:
    return next(node for node in meta.graph_def.node if node.op == op_type)


@pytest.mark.parametrize("name", SEEDS)
def test_mend_of_a_graph_that_tensorflow_imports_changes_nothing(name: str) -> None:
    meta = _meta(name)
    mended, done = _mended(meta)
    assert mended is meta
    assert done == ()
    assert _codes(meta) == []


def test_mend_of_an_unknown_attribute_at_its_own_default_drops_it_everywhere() -> None:
    meta = _meta()
    for op in meta.meta_info_def.stripped_op_list.op:
        if op.name == "MatMul":
            op.attr.add(name="later_idea", type="bool").default_value.b = False
    nodes = [node for node in meta.graph_def.node if node.op == "MatMul"]
    for node in nodes:
        node.attr["later_idea"].b = False
    mended, done = _mended(meta)
    assert [node for node in mended.graph_def.node if "later_idea" in node.attr] == []
    assert done == (f"attribute later_idea dropped from {len(nodes)} MatMul nodes",)
    assert _codes(mended) == []


def test_compat_problems_of_an_unknown_attribute_off_its_default_names_the_nodes_and_force_drops_it() -> (
    None
):
    meta = _meta()
    node = next(node for node in meta.graph_def.node if node.op == "MatMul")
    node.attr["later_idea"].b = True
    mended, done = _mended(meta)
    (problem,) = compat_problems(mended, opset.merged(meta))
    assert (problem.code, problem.nodes, problem.forceable) == (
        "unknown-attribute",
        (node.name,),
        True,
    )
    assert done == ()
    forced, done = _mended(meta, force=True)
    assert _codes(forced) == []
    assert len(done) == 1


def test_compat_problems_of_missing_operations_names_all_of_them_at_once() -> None:
    meta = _meta()
    meta.graph_def.node.add(name="a", op="MyOp")
    meta.graph_def.node.add(name="b", op="MyOp")
    meta.graph_def.node.add(name="c", op="OtherOp")
    function = meta.graph_def.library.function.add()
    function.signature.name = "body"
    function.node_def.add(name="d", op="InnerOp")
    found = {
        problem.message.rpartition(" ")[2]: problem.nodes
        for problem in compat_problems(meta, opset.merged(meta))
    }
    assert found == {"MyOp": ("a", "b"), "OtherOp": ("c",), "InnerOp": ("d (in function body)",)}


def test_compat_problems_of_missing_operations_with_a_library_are_warnings() -> None:
    meta = _meta()
    meta.graph_def.node.add(name="a", op="MyOp")
    (problem,) = compat_problems(meta, opset.merged(meta), libraries=["my_ops.so"])
    assert problem.severity == "warning"
    assert "my_ops.so" in problem.message


def test_mend_of_a_too_new_min_consumer_lowers_it_where_all_is_known() -> None:
    meta = _meta()
    meta.graph_def.versions.min_consumer = 2_000_000
    mended, done = _mended(meta)
    assert mended.graph_def.versions.min_consumer == 0
    assert len(done) == 1
    assert meta.graph_def.versions.min_consumer == 2_000_000
    assert _codes(mended) == []


def test_mend_of_a_too_new_min_consumer_with_unknown_operations_leaves_it_and_says_so() -> None:
    meta = _meta()
    meta.graph_def.versions.min_consumer = 2_000_000
    meta.graph_def.node.add(name="a", op="MyOp")
    mended, _ = _mended(meta)
    assert sorted(_codes(mended)) == ["min-consumer", "missing-op"]


def test_mend_of_an_unparsable_version_text_keeps_the_number_in_front() -> None:
    meta = _meta()
    meta.meta_info_def.tensorflow_version = "1.4.0-custom_build"
    mended, _ = _mended(meta)
    assert mended.meta_info_def.tensorflow_version == "1.4.0"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1.4.0-custom_build", "1.4.0"),
        ("v1.2", "1.2"),
        ("unknown", ""),
        ("1.15.0-gpu nightly", "1.15.0"),
    ],
)
def test_readable_version_is_a_version_or_nothing(text: str, read: str) -> None:
    assert not is_version(text) or text == "v1.2"
    assert readable_version(text) == read
    assert read == "" or is_version(read)


def test_mend_of_dangling_collection_entries_drops_them_and_keeps_the_others() -> None:
    meta = _meta()
    before = list(meta.collection_def["trainable_variables"].bytes_list.value)
    meta.collection_def["trainable_variables"].bytes_list.value.append(
        b"\x0a\x07nowhere\x12\x07nowhere"
    )
    meta.collection_def["mine"].node_list.value.extend(
        ["lost:0", meta.graph_def.node[0].name, "^lost"]
    )
    mended, done = _mended(meta)
    assert list(mended.collection_def["trainable_variables"].bytes_list.value) == before
    assert list(mended.collection_def["mine"].node_list.value) == [meta.graph_def.node[0].name]
    assert len(done) == 3


def test_mend_of_colocations_with_missing_nodes_drops_those_alone() -> None:
    meta = _meta()
    node = meta.graph_def.node[0]
    there = meta.graph_def.node[1].name
    node.attr["_class"].list.s.extend([b"loc:@nowhere", b"loc:@" + there.encode()])
    mended, done = _mended(meta)
    assert b"loc:@nowhere" not in mended.graph_def.node[0].attr["_class"].list.s
    assert b"loc:@" + there.encode() in mended.graph_def.node[0].attr["_class"].list.s
    assert len(done) == 1


def test_mend_of_a_function_that_stands_there_twice_drops_one_and_a_different_one_is_a_collision() -> (
    None
):
    meta = _meta()
    for _ in range(2):
        meta.graph_def.library.function.add().signature.name = "f"
    mended, done = _mended(meta)
    assert len(mended.graph_def.library.function) == 1
    assert len(done) == 1
    meta.graph_def.library.function[1].node_def.add(name="x", op="NoOp")
    assert _codes(_mended(meta)[0]) == ["function-collision"]


def test_compat_problems_of_a_function_named_as_an_operation_is_a_collision() -> None:
    meta = _meta()
    meta.graph_def.library.function.add().signature.name = "MatMul"
    assert _codes(meta) == ["function-collision"]


def test_compat_problems_of_a_removed_operation_says_what_replaced_it() -> None:
    meta = _meta()
    meta.graph_def.node.add(name="old", op="BatchMatrixDiag")
    (problem,) = compat_problems(meta, opset.merged(meta))
    assert problem.code == "removed-op"
    assert "MatrixDiag" in problem.message


def test_kernel_problems_of_operations_that_cannot_run_here_names_them() -> None:
    meta = _meta()
    meta.graph_def.node.add(name="trees", op="BoostedTreesPredict")
    meta.graph_def.node.add(name="rnn", op="CudnnRNN")
    meta.graph_def.node.add(name="sum", op="AccumulateNV2")
    ops = opset.merged(meta)
    assert {
        problem.code: problem.nodes
        for problem in kernel_problems(every_node(meta.graph_def), ops, gpu=False)
    } == {
        "no-kernel": ("trees",),
        "gpu-only-op": ("rnn",),
    }
    assert [
        problem.code for problem in kernel_problems(every_node(meta.graph_def), ops, gpu=True)
    ] == ["no-kernel"]


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda meta: meta.graph_def.node.add().CopyFrom(meta.graph_def.node[0]), "duplicate-node"),
        (lambda meta: meta.graph_def.node.add(name="bad name!", op="NoOp"), "bad-node-name"),
        (
            lambda meta: meta.graph_def.node.add(name="n", op="NoOp", input=["^nowhere"]),
            "unknown-input",
        ),
        (lambda meta: _first(meta, "MatMul").input.append("x"), "bad-inputs"),  # type: ignore[attr-defined]
        (lambda meta: _first(meta, "MatMul").input.pop(), "bad-inputs"),  # type: ignore[attr-defined]
        (lambda meta: _first(meta, "MatMul").input.__setitem__(0, "y"), "type-mismatch"),  # type: ignore[attr-defined]
        (lambda meta: _first(meta, "MatMul").input.__setitem__(0, "x:3"), "unknown-input"),  # type: ignore[attr-defined]
        (lambda meta: _first(meta, "MatMul").input.append("^loss_grad_loop"), "unknown-input"),  # type: ignore[attr-defined]
        (lambda meta: _first(meta, "MatMul").attr.pop("T"), "missing-attribute"),  # type: ignore[attr-defined]
        (lambda meta: setattr(_first(meta, "MatMul").attr["T"], "type", 7), "value-attribute"),  # type: ignore[attr-defined]
        (
            lambda meta: setattr(_first(meta, "MatMul").attr["transpose_a"], "i", 7),  # type: ignore[attr-defined]
            "kind-attribute",
        ),
    ],
)
def test_soundness_problems_of_a_damaged_graph_names_the_damage(damage: object, code: str) -> None:
    meta = _meta()
    damage(meta)  # type: ignore[operator]
    assert code in _codes(meta)


def test_soundness_problems_of_a_circle_is_a_cycle_and_of_a_while_loop_nothing() -> None:
    meta = _meta()
    meta.graph_def.node.add(name="a", op="NoOp", input=["^b"])
    meta.graph_def.node.add(name="b", op="NoOp", input=["^a"])
    assert _codes(meta) == ["cycle"]
    assert _codes(_meta("lstm")) == []


SHAPE_INFERENCE = (
    "hape",
    "rank",
    "Rank",
    "imension",
    "Cannot reshape",
    "must be a tensor with a single value",
)
"""What TensorFlow says where only its shape functions can tell, which nothing here repeats."""


@pytest.mark.tf
@pytest.mark.parametrize("name", ["mlp", "conv_bn", "lstm", "tfdata"])
def test_soundness_and_compatibility_find_what_tensorflows_import_refuses(name: str) -> None:
    from tests.graph.tf_import import import_error

    missed = []
    for number in range(60):
        random = Random(f"{name} {number}")
        meta = _meta(name)
        random.choice(PROTO_MUTATIONS)(meta, random)
        mended, _ = _mended(meta, force=True)
        said = import_error(mended)
        if (
            said is not None
            and not _codes(mended)
            and not any(word in said for word in SHAPE_INFERENCE)
        ):
            missed.append((number, said))
    assert missed == []


def test_compatibility_of_a_large_graph_is_one_pass() -> None:
    meta = _meta()
    found = compatibility(meta, opset.merged(meta))
    assert found.all_known
