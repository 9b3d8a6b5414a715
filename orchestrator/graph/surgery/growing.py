"""How does a table get more rows (``--grow``)?

Rule: the table is one that a step reads and writes by row alone, and nothing of the graph fixes how
many rows it has. It, its slots, their initialisers and their places in savers are written as for a
model that was made with so many rows; a checkpoint gives the first of them. Rows are never taken
away.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.variable_pb2 import VariableDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.constants import PASSING, constant_strings
from orchestrator.graph.graphdef.edit import shape_attribute, strings_attributes
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import parse_tensor, resolve_alias
from orchestrator.graph.surgery.edits import RefusedEdit, UnderEdit, each_fits, few
from orchestrator.graph.surgery.initial_rows import InitialRows
from orchestrator.graph.tables.find import TablePart, find_tables
from orchestrator.graph.tables.longer import RESTORES, SAVES, fixes_rows
from orchestrator.graph.tables.written_shapes import forget_rows
from orchestrator.graph.worker_graph import Variable

_BOUNDS = ("range_max", "num_buckets")
"""Attributes that say below which number candidates or hashes are."""


def grow_table(work: UnderEdit, name: str, rows: int) -> None:
    """Give one table ``rows`` rows. Raises RefusedEdit."""
    variable = _named(work, name)
    part = _table(work, name, variable)
    members = (part.variable, *part.slots)
    if rows < part.rows:
        raise RefusedEdit(
            f"--grow {name}={rows}: it has {part.rows} rows, and rows aren't taken away",
            f"Give a number above {part.rows}",
            (variable.name,),
        )
    work.grown.update(members)
    if rows == part.rows:
        work.done.append(f"left {part.variable} at the {rows} rows that it has")
        return
    initializers = {one.initializer for one in work.variables.values() if one.initializer}
    fixed = fixes_rows(work.graph, part.variable, part.slots, initializers)
    if fixed is not None:
        raise _refused(name, rows, fixed.variable, fixed.node, fixed.op, fixed.why)
    grown = _lengthen(work, name, [work.variables[one] for one in members], part.rows, rows)
    grown |= _lengthen_slices(work, [work.variables[member] for member in members], rows)
    forget_rows(work.editor, work.graph, grown, part.rows)
    work.done.append(_told(work.graph, part, rows))


def _named(work: UnderEdit, name: str) -> Variable:
    """The variable of this name, or the only part of the partitioned one."""
    if name in work.variables:
        return work.variables[name]
    parts = [one for one in work.variables.values() if one.key == name and one.slot_of is None]
    if len(parts) == 1:
        return parts[0]
    if parts:
        raise _divided(name, [one.name for one in parts])
    each_fits("--grow", work.variables, [name])
    raise RefusedEdit(f"--grow {name}: that is a scope or a pattern", "Name one variable", (name,))


def _table(work: UnderEdit, name: str, variable: Variable) -> TablePart:
    found = find_tables(work.graph, work.variables.values(), work.targets)
    for table in found.tables:
        for part in table.parts:
            if part.variable == variable.name:
                if len(table.parts) > 1:
                    raise _divided(name, [one.variable for one in table.parts])
                return part
    why = found.wholes.get(variable.name)
    if why is not None:
        raise _refused(name, 0, why.variable, why.node, why.op, why.why)
    told = "it's an optimizer's slot, which grows with its table" if variable.slot_of else ""
    raise RefusedEdit(
        f"--grow {name}: {told or 'a step looks up no rows of it'}",
        "Name a table that a step looks up",
        (variable.name,),
    )


def _divided(name: str, parts: list[str]) -> RefusedEdit:
    return RefusedEdit(
        f"--grow {name}: it has {len(parts)} parts, and the graph divides ids among them by how many rows it was made with",
        "Only a table of one part can grow",
        tuple(parts),
    )


def _refused(name: str, rows: int, variable: str, node: str, op: str, why: str) -> RefusedEdit:
    flag = f"--grow {name}={rows}" if rows else f"--grow {name}"
    whose = "" if variable == name else f" (of {variable})"
    return RefusedEdit(
        f"{flag}: its number of rows is fixed{whose}: {node} ({op}) {why}",
        "Only tables that are looked up and updated by row can grow",
        (node,),
    )


def _lengthen(work: UnderEdit, name: str, members: list[Variable], old: int, rows: int) -> set[str]:
    """Give variables and their initial values more rows; the nodes that have them now."""
    initial = InitialRows(work, name, old, rows)
    for one in members:
        initial.lengthen(one)
    initial.refuse_other_takers()
    for one in members:
        shape = (rows, *(one.shape or ())[1:])
        work.editor.node(one.name).attr["shape"].CopyFrom(shape_attribute(shape))
    return initial.grown | {one.name for one in members}


def _lengthen_slices(work: UnderEdit, members: list[Variable], rows: int) -> set[str]:
    """Tell savers and collections of the new length, where they tell of slices; the savers'
    nodes.
    """
    sliced = {one.key: one for one in members if one.slice_spec and one.key}
    if not sliced:
        return set()
    longer = {key: _longer(one.slice_spec, rows) for key, one in sliced.items()}
    graph = work.graph
    told = {
        name
        for name, op in graph.view.ops.items()
        if op in SAVES | RESTORES and _rewrite_slices(work, graph, name, longer)
    }
    names = {one.name for one in sliced.values()}
    for collection in work.editor.meta.collection_def.values():
        values = collection.bytes_list.value
        for at, value in enumerate(values):
            values[at] = _longer_definition(value, names, rows)
    return told


def _longer(spec: str, rows: int) -> str:
    """``20 8 0,20:-`` with another number of rows; the slice is all of them."""
    *sizes, slices = spec.split()
    first, colon, rest = slices.partition(":")
    return " ".join([str(rows), *sizes[1:], ("-" if first == "-" else f"0,{rows}") + colon + rest])


def _rewrite_slices(work: UnderEdit, graph: Graph, name: str, longer: Mapping[str, str]) -> bool:
    """Whether a saver's node names one of the slices, which are longer then."""
    data = graph.view.data[name]
    if len(data) < 3:  # an old saver that knows no slices
        return False
    keys, specs = (constant_strings(graph.view, data[slot]) for slot in (1, 2))
    if keys is None or specs is None or not longer.keys() & set(keys):
        return False
    now = [
        longer[key] if spec and key in longer else spec
        for key, spec in zip(keys, specs, strict=True)
    ]
    attributes = strings_attributes(now)
    before = resolve_alias(graph.view, data[2], PASSING).node
    attributes["value"].tensor.tensor_shape.CopyFrom(
        attribute(graph.view.nodes[before], "value").tensor.tensor_shape
    )
    constant = work.add("Const", data[2].node, attributes=attributes)
    work.editor.node(constant.node).device = work.editor.node(name).device
    work.editor.set_input(name, 2, constant)
    return True


def _longer_definition(value: bytes, names: set[str], rows: int) -> bytes:
    try:
        definition = VariableDef.FromString(value)
    except DecodeError:  # something else than a variable
        return value
    named = definition.variable_name and parse_tensor(definition.variable_name).node in names
    if not named or not definition.HasField("save_slice_info_def"):
        return value
    definition.save_slice_info_def.full_shape[0] = rows
    definition.save_slice_info_def.var_shape[0] = rows
    return bytes(definition.SerializeToString(deterministic=True))


def _told(graph: Graph, part: TablePart, rows: int) -> str:
    slots = f", and its slots {few(part.slots)}" if part.slots else ""
    bound = sorted(
        name
        for name in graph.view.ancestors(
            [use.indices.node for use in part.lookups if use.indices is not None], control=False
        )
        if any(attribute(graph.view.nodes[name], key).i == part.rows for key in _BOUNDS)
    )
    still = f"; {few(bound)} still gives ids below {part.rows} alone" if bound else ""
    return f"grew {part.variable} from {part.rows} to {rows} rows{slots}{still}"
