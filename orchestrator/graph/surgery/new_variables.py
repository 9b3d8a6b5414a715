"""How does a graph get another variable, saved and restored with the others?

Rule: as TensorFlow's Python would have written it: node, initialiser, read, a place in the
``variables`` collection, and entries of the saver's save and restore operations, so that plain
TensorFlow loads what is saved with the graph that lies beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.variable_pb2 import VariableDef

from orchestrator.graph.graphdef.constants import constant_strings
from orchestrator.graph.graphdef.edit import (
    shape_attribute,
    strings_attributes,
    type_attribute,
)
from orchestrator.graph.graphdef.tensors import dtype_number, fill_shape
from orchestrator.graph.graphdef.view import Edge, parse_tensor
from orchestrator.graph.surgery.edits import UnderEdit
from orchestrator.graph.variables.saver import SavedAs
from orchestrator.graph.variables.variables import GLOBAL
from orchestrator.graph.worker_graph import Variable

FLAG = AttrValue(b=True)


@dataclass(frozen=True)
class NewVariable:
    """A variable that was added.

    Attributes:
        handle: its reference or handle; ``read`` its value.
    """

    name: str
    handle: Edge
    read: Edge
    dtype: str
    is_resource: bool
    saved_as: SavedAs


def add_variable(
    work: UnderEdit,
    name: str,
    beside: Variable,
    *,
    initial: float,
    shape: tuple[int, ...],
    dtype: str,
    slot: bool,
) -> NewVariable:
    """Add a variable like ``beside``: as reference or resource, on its device.

    Args:
        initial: what all its elements begin with.
        slot: it's saved as a part of a partitioned variable where ``beside`` is one.
    """
    name, is_resource = work.unique(name), beside.kind == "resource"
    typed = type_attribute(dtype)
    attributes = {
        "dtype": typed,
        "shape": shape_attribute(shape),
        "container": AttrValue(s=b""),
        "shared_name": AttrValue(s=name.encode() if is_resource else b""),
    }
    op = "VarHandleOp" if is_resource else "VariableV2"
    handle = work.add(op, name, attributes=attributes, like=beside.name)
    value = work.add(
        "Const", f"{name}/Initializer/value", attributes=_filled(initial, shape, dtype)
    )
    if is_resource:
        assign = work.add(
            "AssignVariableOp", f"{name}/Assign", [handle, value], attributes={"dtype": typed}
        )
        read = work.add(
            "ReadVariableOp", f"{name}/Read/ReadVariableOp", [handle], attributes={"dtype": typed}
        )
    else:
        how = {"T": typed, "use_locking": FLAG, "validate_shape": FLAG}
        assign = work.add("Assign", f"{name}/Assign", [handle, value], attributes=how, like=name)
        read = work.add("Identity", f"{name}/read", [handle], attributes={"T": typed}, like=name)
    saved_as = SavedAs(name)
    if slot and beside.slice_spec and beside.key:
        saved_as = SavedAs(f"{beside.key}/{name.rpartition('/')[2]}", beside.slice_spec)
    _declare(
        work,
        VariableDef(
            variable_name=handle.tensor,
            initializer_name=assign.node,
            snapshot_name=read.tensor,
            initial_value_name=value.tensor,
            is_resource=is_resource,
            trainable=False,
        ),
        beside.name if saved_as.slice_spec else "",
        saved_as.key,
    )
    return NewVariable(name, handle, read, dtype, is_resource, saved_as)


def _filled(initial: float, shape: tuple[int, ...], dtype: str) -> dict[str, AttrValue]:
    """A constant of one number, which TensorFlow repeats to the shape: as small as that in the
    file.
    """
    value = AttrValue()
    value.tensor.dtype = dtype_number(dtype)
    value.tensor.tensor_shape.SetInParent()
    fill_shape(value.tensor.tensor_shape, shape)
    if dtype == "float64":
        value.tensor.double_val.append(initial)
    elif dtype == "float16":
        import numpy as np

        value.tensor.half_val.append(int(np.float16(initial).view(np.uint16)))
    else:
        value.tensor.float_val.append(initial)
    return {"dtype": type_attribute(dtype), "value": value}


def _declare(work: UnderEdit, definition: VariableDef, owner: str, key: str) -> None:
    """Name the variable in the collection, if the graph has that."""
    meta = work.editor.meta
    if GLOBAL not in meta.collection_def:
        return
    values = meta.collection_def[GLOBAL].bytes_list.value
    if owner:
        for value in values:
            other = VariableDef.FromString(value)
            if parse_tensor(other.variable_name).node == owner and other.HasField(
                "save_slice_info_def"
            ):
                definition.save_slice_info_def.CopyFrom(other.save_slice_info_def)
                definition.save_slice_info_def.full_name = key
    values.append(definition.SerializeToString(deterministic=True))


def add_to_saver(work: UnderEdit, added: list[NewVariable]) -> None:
    """Let the graph's own saver keep the variables; nothing where it has none in today's format."""
    graph, definition = work.graph, work.editor.meta.saver_def
    save = parse_tensor(definition.save_tensor_name).node
    restore = parse_tensor(definition.restore_op_name).node
    if not added or save not in graph.view or restore not in graph.view:
        return
    saving = [name for name in graph.view.ancestors([save]) if graph.view.op(name) == "SaveV2"]
    restoring = [
        name for name in graph.view.ancestors([restore]) if graph.view.op(name) == "RestoreV2"
    ]
    if saving and restoring:
        _save_too(work, min(saving), added)
        _restore_too(work, min(restoring), restore, added)


def _save_too(work: UnderEdit, save: str, added: list[NewVariable]) -> None:
    view = work.graph.view
    keys, slices = (constant_strings(view, view.data[save][at]) or [] for at in (1, 2))
    keys += [one.saved_as.key for one in added]
    slices += [""] * (len(keys) - len(added) - len(slices))
    slices += [one.saved_as.slice_spec for one in added]
    names = work.add("Const", f"{save}/tensor_names", attributes=strings_attributes(keys))
    specs = work.add("Const", f"{save}/shape_and_slices", attributes=strings_attributes(slices))
    work.editor.set_input(save, 1, names)
    work.editor.set_input(save, 2, specs)
    node = work.editor.node(save)
    at = sum(1 for text in node.input if not text.startswith("^"))
    for number, one in enumerate(added):
        node.input.insert(at + number, (one.read if one.is_resource else one.handle).text)
    node.attr["dtypes"].list.type.extend(dtype_number(one.dtype) for one in added)


def _restore_too(work: UnderEdit, beside: str, restore: str, added: list[NewVariable]) -> None:
    keys = strings_attributes([one.saved_as.key for one in added])
    slices = strings_attributes([one.saved_as.slice_spec for one in added])
    names = work.add("Const", f"{beside}/tensor_names", attributes=keys)
    specs = work.add("Const", f"{beside}/shape_and_slices", attributes=slices)
    types = AttrValue()
    types.list.type.extend(dtype_number(one.dtype) for one in added)
    file = work.graph.view.data[beside][0]
    read = work.add("RestoreV2", beside, [file, names, specs], attributes={"dtypes": types})
    work.editor.node(read.node).device = work.editor.node(beside).device
    scope = beside.rpartition("/")[0]
    assigned = [
        _assign_restored(work, f"{scope}/" if scope else "", one, Edge(read.node, at))
        for at, one in enumerate(added)
    ]
    work.editor.add_controls(restore, assigned)


def _assign_restored(work: UnderEdit, scope: str, one: NewVariable, value: Edge) -> str:
    typed = type_attribute(one.dtype)
    if one.is_resource:
        passed = work.unary("Identity", f"{scope}Identity", value, dtype=one.dtype)
        name = f"{scope}AssignVariableOp"
        return work.add(
            name.rpartition("/")[2], name, [one.handle, passed], attributes={"dtype": typed}
        ).node
    how = {"T": typed, "use_locking": FLAG, "validate_shape": FLAG}
    return work.add(
        "Assign", f"{scope}Assign", [one.handle, value], attributes=how, like=one.name
    ).node
