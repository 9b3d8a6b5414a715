"""How is a tensor of the graph set to a number (``--set``)?

Rule: a constant gets the value in its own type and shape. A variable is left alone, and what a step
reads of it becomes the value; any other tensor is replaced by a constant for all that take it,
which only a scalar can be. What trains, feeds or writes isn't set.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import constant_attributes
from orchestrator.graph.graphdef.tensors import dtype_name, shape_of
from orchestrator.graph.graphdef.view import Edge, parse_tensor
from orchestrator.graph.inputs.ports import PLACEHOLDERS
from orchestrator.graph.surgery.edits import RefusedEdit, UnderEdit

READS = frozenset({"Identity", "ReadVariableOp"})


def set_tensor(work: UnderEdit, name: str, text: str) -> None:
    """Set one tensor. Raises RefusedEdit."""
    edge = parse_tensor(name)
    graph = work.graph
    if edge.node not in graph.view:
        raise RefusedEdit(
            f"--set {name}: the graph has no such tensor",
            "`tfresume inspect` names them",
            (name,),
        )
    if graph.traits(edge.node).variable:
        _set_reads(work, edge.node, text)
    elif graph.view.op(edge.node) == "Const":
        _set_constant(work, edge.node, text)
    else:
        _replace(work, edge, text)
    work.done.append(f"set {edge.tensor} to {text}")


def _set_constant(work: UnderEdit, name: str, text: str) -> None:
    node = work.editor.node(name)
    tensor = attribute(node, "value").tensor
    dtype, shape = dtype_name(tensor.dtype), shape_of(tensor.tensor_shape)
    value = _value(name, text, dtype)
    if value.shape != shape:
        raise RefusedEdit(
            f"--set {name}: the constant has shape {list(shape or ())}, the value {list(value.shape)}",
            "Give a value of that shape, written as JSON",
            (name,),
        )
    node.attr["value"].CopyFrom(constant_attributes(value)["value"])


def _set_reads(work: UnderEdit, variable: str, text: str) -> None:
    """Let a step take a constant wherever it reads the variable."""
    graph, closure = work.graph, work.closure()
    known = work.variables[variable]
    value = _value(variable, text, known.dtype)
    if known.shape is not None and value.shape != known.shape:
        raise RefusedEdit(
            f"--set {variable}: the variable has shape {list(known.shape)}, the value {list(value.shape)}",
            "Give a value of that shape, written as JSON",
            (variable,),
        )
    if known.trainable:
        raise RefusedEdit(
            f"--set {variable}: it's trained, and would be trained no more",
            "Hold it with --freeze",
            (variable,),
        )
    uses = []
    for use in graph.view.uses[variable]:
        if use.node not in closure:
            continue
        if graph.view.op(use.node) in READS:
            uses += [(one.node, one.slot) for one in graph.view.uses[use.node]]
        elif known.kind == "ref" and not graph.writes(use.node):
            uses.append((use.node, use.slot))
    uses += _own_inputs(work, variable, closure) if known.kind == "ref" else []
    taken = [(node, slot) for node, slot in uses if node in closure]
    if not taken:
        raise RefusedEdit(f"--set {variable}: a step doesn't read it", nodes=(variable,))
    constant = work.add("Const", f"{variable}/value", attributes=constant_attributes(value))
    for node, slot in taken:
        work.editor.set_input(node, slot, constant)


def _own_inputs(work: UnderEdit, variable: str, closure: set[str]) -> list[tuple[str, int]]:
    """Where a writer of something else takes the variable's value without a read, as an optimizer
    takes its rate.
    """
    graph = work.graph
    return [
        (use.node, use.slot)
        for use in graph.view.uses[variable]
        if use.node in closure
        and graph.writes(use.node)
        and variable not in graph.written_by(use.node)
        and not _is_reference(work, use.node, use.slot)
    ]


def _is_reference(work: UnderEdit, node: str, slot: int) -> bool:
    definition = work.graph.definition(node)
    arguments = list(definition.input_arg) if definition is not None else []
    return slot >= len(arguments) or bool(arguments[slot].is_ref)


def _replace(work: UnderEdit, edge: Edge, text: str) -> None:
    graph, name = work.graph, edge.tensor
    why = _why_not(work, edge)
    if why:
        raise RefusedEdit(f"--set {name}: {why[0]}", why[1], (edge.node,))
    value = _value(name, text, graph.dtype(edge))
    if value.shape:
        raise RefusedEdit(
            f"--set {name}: it's computed ({graph.view.op(edge.node)}), and only a scalar can stand for what is",
            "Set the constants that it's computed from",
            (edge.node,),
        )
    uses = [use for use in graph.view.uses[edge.node] if use.port == edge.port]
    constant = work.add("Const", f"{edge.node}/value", attributes=constant_attributes(value))
    for use in uses:
        work.editor.set_input(use.node, use.slot, constant)


def _why_not(work: UnderEdit, edge: Edge) -> tuple[str, str] | None:
    graph = work.graph
    op = graph.view.op(edge.node)
    if op in PLACEHOLDERS:
        return f"it's fed ({op})", f"Use --feed {edge.tensor}=VALUE"
    if graph.writes(edge.node) or graph.traits(edge.node).source:
        return f"{edge.node} ({op}) does more than compute it", "Name a tensor that is read"
    if graph.gradient_scope(edge.node) is not None:
        return f"{edge.node} ({op}) stands among the gradients", "Hold a variable with --freeze"
    if not graph.dtype(edge):
        return f"{edge.node} ({op}) has no output {edge.port}", "`tfresume inspect` names tensors"
    above = graph.view.ancestors([edge.node], control=False)
    trained = sorted(
        name for name in above if name in work.variables and work.variables[name].trainable
    )
    if trained:
        return f"it's computed from {trained[0]}, which is trained", "Hold a variable with --freeze"
    if not any(use.port == edge.port for use in graph.view.uses[edge.node]):
        return "nothing takes it", "Name a tensor that a step reads"
    return None


def _value(name: str, text: str, dtype: str) -> np.ndarray:
    try:
        told: Any = json.loads(text)
    except ValueError:
        told = text
    try:
        value = np.asarray(told)
        wanted = np.dtype(dtype)
        if value.dtype.kind not in "biuf":
            raise TypeError(f"{text} isn't a number")
        cast = value.astype(wanted)
        lossless = wanted.kind == "f" or bool(np.array_equal(cast, value))
        if not lossless or (wanted.kind == "b") != (value.dtype.kind == "b"):
            raise TypeError(f"{text} isn't of type {dtype}")
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusedEdit(
            f"--set {name}: it holds {dtype or 'no numbers'}, and {text!r} is no value of that type ({error})",
            "Write a number, true or false, or a list as JSON",
            (name,),
        ) from error
    return cast
