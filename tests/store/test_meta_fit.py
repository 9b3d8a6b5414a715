"""Is a graph that belongs to another model told from one whose checkpoint this may be?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.types_pb2 import DataType

from orchestrator.graph.variables.checkpoint_keys import CheckpointTensor
from orchestrator.store.checkpoints.meta_fit import misfit
from tests.fakes.bundles import meta_bytes, model

FLOAT, INT64 = DataType.DT_FLOAT, DataType.DT_INT64
KEYS = {
    "w": CheckpointTensor("float32", (8, 4)),
    "b": CheckpointTensor("float32", (4,)),
    "step": CheckpointTensor("int64", ()),
}


def _strings(meta: Any, name: str, values: Sequence[bytes], count: int | None = None) -> None:
    node = meta.graph_def.node.add(name=name, op="Const")
    node.attr["value"].tensor.string_val.extend(values)
    node.attr["value"].tensor.tensor_shape.dim.add(size=len(values) if count is None else count)


def _variable(meta: Any, name: str, shape: Sequence[int] | None) -> None:
    node = meta.graph_def.node.add(name=name, op="VariableV2")
    if shape is None:
        node.attr["shape"].shape.unknown_rank = True
    else:
        node.attr["shape"].shape.SetInParent()
        for size in shape:
            node.attr["shape"].shape.dim.add(size=size)


def _node(meta: Any, name: str, op: str, *inputs: str) -> Any:
    node = meta.graph_def.node.add(name=name, op=op)
    node.input.extend(inputs)
    return node


def _meta(
    keys: Sequence[bytes] = (b"w", b"b", b"step"),
    types: Sequence[int] = (FLOAT, FLOAT, INT64),
    slices: Sequence[bytes] = (b"", b"", b""),
) -> Any:
    """A graph whose saver restores these under one operation, assigned to nothing yet."""
    meta = MetaGraphDef()
    meta.saver_def.filename_tensor_name = "save/Const:0"
    _strings(meta, "save/names", keys)
    _strings(meta, "save/slices", slices)
    restore = _node(meta, "save/Restore", "RestoreV2", "save/Const", "save/names", "save/slices")
    restore.attr["dtypes"].list.type.extend(types)
    return meta


def _assigned(meta: Any, output: int, shape: Sequence[int] | None, *, identities: int = 0) -> Any:
    """The restored value goes to a variable of this shape, through so many identities."""
    value = f"save/Restore:{output}" if output else "save/Restore"
    for number in range(identities):
        value = (
            _node(meta, f"save/Identity_{output}_{number}", "Identity", value).name
            + number % 2 * ":0"
        )
    _variable(meta, f"v{output}", shape)
    _node(meta, f"save/Assign_{output}", "Assign", f"v{output}" + output * ":0", value)
    return meta


def test_checkpoint_of_its_graph_fits() -> None:
    fitting = {
        key: CheckpointTensor(np.asarray(value).dtype.name, np.shape(value))
        for key, value in model(5).items()
    }
    meta = MetaGraphDef.FromString(meta_bytes(model(5)))
    assert misfit(meta, fitting, whole=True) == ""
    assert misfit(MetaGraphDef(), KEYS) == ""


def test_checkpoint_of_another_model_holds_none_of_the_keys() -> None:
    assert misfit(_meta([b"x", b"y", b"z"]), KEYS) == (
        "holds none of the 3 variables that the graph's saver restores: it's another model's"
    )


def test_missing_keys_count_only_where_another_checkpoint_could_be_taken() -> None:
    meta = _meta([b"x", b"b", b"z"])
    assert misfit(meta, KEYS) == ""
    assert misfit(meta, KEYS, whole=True) == (
        "lacks 2 of the 3 variables that its graph's saver restores, such as 'x'"
    )


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ((FLOAT, FLOAT, INT64), ""),
        ((FLOAT + 100, FLOAT, INT64 + 100), ""),  # references
        ((FLOAT, INT64, INT64), "doesn't fit the graph: 'b' is float32 in it, int64 in the graph"),
        ((FLOAT, 63, INT64), ""),  # a type that nobody knows isn't compared
        (
            (INT64, INT64, FLOAT),
            "doesn't fit the graph: 'w' is float32 in it, int64 in the graph; "
            "'b' is float32 in it, int64 in the graph; 'step' is int64 in it, float32 in the graph",
        ),
    ],
)
def test_type_that_differs_is_told(types: Sequence[int], said: str) -> None:
    assert misfit(_meta(types=types), KEYS) == said


def test_many_differences_are_counted() -> None:
    keys = {f"k{number}": CheckpointTensor("int64", ()) for number in range(5)}
    meta = _meta([key.encode() for key in keys], [FLOAT] * 5, [b""] * 5)
    first = "; ".join(f"'k{number}' is int64 in it, float32 in the graph" for number in range(3))
    assert misfit(meta, keys) == f"doesn't fit the graph: {first} and 2 more"
    keys["k0"] = CheckpointTensor("float32", ())
    assert misfit(meta, keys).endswith("'k3' is int64 in it, float32 in the graph and 1 more")


@pytest.mark.parametrize("identities", [0, 1, 3])
@pytest.mark.parametrize("op", ["Assign", "AssignVariableOp"])
def test_shape_of_the_variable_that_is_restored_is_compared(identities: int, op: str) -> None:
    meta = _assigned(_meta(), 0, (9, 4), identities=identities)
    _assigned(meta, 1, (4,), identities=identities)
    for node in meta.graph_def.node:
        node.op = op if node.op == "Assign" else node.op
    assert misfit(meta, KEYS) == (
        "doesn't fit the graph: 'w' has shape [8, 4] in it, [9, 4] in the graph"
    )
    meta = _assigned(_assigned(_meta(), 0, (8, 4)), 1, (5,), identities=identities)
    assert misfit(meta, KEYS).endswith("'b' has shape [4] in it, [5] in the graph")


@pytest.mark.parametrize("shape", [None, (-1, 4), (8, 4)])
def test_shape_that_the_graph_leaves_open_fits(shape: Sequence[int] | None) -> None:
    assert misfit(_assigned(_meta(), 0, shape), KEYS) == ""


def test_scalar_of_the_graph_does_not_fit_a_row() -> None:
    meta = _assigned(_meta([b"b"], [FLOAT], [b""]), 0, ())
    assert misfit(meta, KEYS) == ("doesn't fit the graph: 'b' has shape [4] in it, [] in the graph")
    rows = _assigned(_meta([b"b"], [FLOAT], [b""]), 0, (0,))
    assert misfit(rows, KEYS).endswith("'b' has shape [4] in it, [0] in the graph")


def test_shape_that_the_checkpoint_does_not_tell_fits() -> None:
    meta = _assigned(_meta(), 0, (9, 4))
    assert misfit(meta, {**KEYS, "w": CheckpointTensor("float32", None)}) == ""


def test_slice_of_a_partitioned_variable_is_not_compared_by_shape() -> None:
    """The variable has a part's shape, and the key the whole tensor's."""
    meta = _assigned(_meta(slices=[b"8 4 0,3:0,4", b"", b""]), 0, (3, 4))
    assert misfit(meta, KEYS) == ""
    assert misfit(_assigned(meta, 1, (5,)), KEYS).endswith("[5] in the graph")


def test_what_leads_to_no_variable_is_not_compared_by_shape() -> None:
    meta = _meta()
    _variable(meta, "v", (9, 4))
    _node(meta, "nothing/given", "Assign", "v")
    _node(meta, "cast", "Cast", "save/Restore")
    _node(meta, "through/cast", "Assign", "v", "cast")
    _node(meta, "no/variable", "Assign", "gone", "save/Restore")
    _node(meta, "other", "NoOp")
    _node(meta, "no/shape", "Assign", "other", "save/Restore")
    _node(meta, "identity", "Identity")
    _node(meta, "of/nothing", "Assign", "v", "identity")
    _node(meta, "of/none", "Assign", "v", "away:0")
    assert misfit(meta, KEYS) == ""
    assert misfit(_assigned(meta, 1, (5,)), KEYS).endswith(
        "'b' has shape [4] in it, [5] in the graph"
    )


def test_restore_operations_of_another_saver_do_not_count() -> None:
    meta = _meta()
    _strings(meta, "other/names", [b"elsewhere"])
    _strings(meta, "other/slices", [b""])
    other = _node(meta, "other", "RestoreV2", "other/file", "other/names", "other/slices")
    other.attr["dtypes"].list.type.append(FLOAT)
    assert misfit(meta, KEYS, whole=True) == ""
    meta.saver_def.filename_tensor_name = "save/Const"
    assert misfit(meta, KEYS, whole=True) == ""
    meta.saver_def.filename_tensor_name = ""  # then it's any of them
    assert "lacks 1 of the 4 variables" in misfit(meta, KEYS, whole=True)


@pytest.mark.parametrize("op", ["Restore", "RestoreSlice"])
def test_operations_of_old_savers_restore_one_key_each(op: str) -> None:
    meta = _meta([b"w"], [FLOAT], [b""])
    _strings(meta, "old/name", [b"b"])
    _strings(meta, "old/slice", [b""])
    old = _node(meta, "old", op, "save/Const", "old/name:0", "old/slice")
    old.attr["dt"].type = INT64
    assert misfit(meta, KEYS).endswith("'b' is float32 in it, int64 in the graph")
    old.input.pop()  # a Restore names no slice
    assert misfit(meta, KEYS).endswith("'b' is float32 in it, int64 in the graph")


def test_row_of_equal_names_is_written_once_and_counts_as_often_as_it_is_long() -> None:
    meta = _meta(slices=[])
    nodes = {node.name: node for node in meta.graph_def.node}
    tensor = nodes["save/slices"].attr["value"].tensor
    tensor.string_val.append(b"8 4 0,3:0,4")
    tensor.tensor_shape.dim[0].size = 3
    tensor.tensor_shape.dim.add(size=1)
    assert misfit(_assigned(_assigned(meta, 0, (3, 4)), 1, (9,)), KEYS) == ""
    tensor.tensor_shape.dim[0].size = 1  # now of the first alone
    assert misfit(meta, KEYS).endswith("'b' has shape [4] in it, [9] in the graph")
    tensor.tensor_shape.dim[0].size = 3
    tensor.string_val.append(b"")  # the last is the one that is repeated
    assert misfit(meta, KEYS) == (
        "doesn't fit the graph: 'b' has shape [4] in it, [9] in the graph"
    )


@pytest.mark.parametrize("sizes", [(-1,), (10_000_001,), (-1, 5)])
def test_row_without_a_believable_length_is_as_long_as_it_is_written(
    sizes: Sequence[int],
) -> None:
    meta = _meta(slices=[])
    nodes = {node.name: node for node in meta.graph_def.node}
    tensor = nodes["save/slices"].attr["value"].tensor
    tensor.string_val.append(b"8 4 0,3:0,4")
    del tensor.tensor_shape.dim[:]
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    assert misfit(_assigned(_assigned(meta, 0, (3, 4)), 1, (9,)), KEYS).endswith("[9] in the graph")


def test_names_that_are_no_constant_are_not_known() -> None:
    meta = _meta()
    meta.graph_def.node[0].op = "Placeholder"
    assert misfit(meta, KEYS) == ""
    meta = _meta()
    del meta.graph_def.node[0]
    assert misfit(meta, KEYS) == ""
    meta = _meta()
    meta.graph_def.node[-1].ClearField("input")
    meta.saver_def.filename_tensor_name = ""
    assert misfit(meta, KEYS) == ""


def test_name_that_is_no_text_is_compared_byte_for_byte() -> None:
    meta = _meta([b"w", b"b\xff", b"step"])
    keys = {**KEYS, "b\udcff": CheckpointTensor("int64", ())}
    assert misfit(meta, keys).endswith("'b\\udcff' is int64 in it, float32 in the graph")
