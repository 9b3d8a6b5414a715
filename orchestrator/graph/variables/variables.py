"""Which variables does a graph have, and which of them does its checkpoint hold under which name?

Rule: every variable node counts, whether a collection names it or not. Collections say what is
trainable or local and how it is initialised; where they're gone, the writers tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.types_pb2 import DT_RESOURCE
from tensorboard.compat.proto.variable_pb2 import VariableDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import dtype_name, shape_of
from orchestrator.graph.graphdef.view import parse_tensor
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.graph.variables.saver import SavedAs, SaverKeys
from orchestrator.graph.worker_graph import Shape, Variable

GLOBAL, LOCAL, TRAINABLE = "variables", "local_variables", "trainable_variables"


@dataclass(frozen=True)
class Declared:
    """What collections say of one variable."""

    initializer: str | None
    saved_as: SavedAs | None
    collections: frozenset[str]


def declared_variables(meta: MetaGraphDef) -> dict[str, Declared]:
    """Variable node to what the collections say of it."""
    found: dict[str, Declared] = {}
    for key, collection in meta.collection_def.items():
        for value in (
            collection.bytes_list.value if collection.WhichOneof("kind") == "bytes_list" else ()
        ):
            definition = variable_definition(value)
            if definition is None:
                continue
            name = parse_tensor(definition.variable_name).node
            before = found.get(name)
            found[name] = Declared(
                parse_tensor(definition.initializer_name).node or None,
                _slice(definition) or (before.saved_as if before else None),
                (before.collections if before else frozenset()) | {key},
            )
    return found


def variable_definition(value: bytes) -> VariableDef | None:
    try:
        definition = VariableDef.FromString(value)
    except DecodeError:
        return None
    return definition if definition.variable_name and definition.initializer_name else None


def _slice(definition: VariableDef) -> SavedAs | None:
    if not definition.HasField("save_slice_info_def"):
        return None
    info = definition.save_slice_info_def
    parts = [
        "-" if (offset, size) == (0, whole) else f"{offset},{size}"
        for offset, size, whole in zip(
            info.var_offset, info.var_shape, info.full_shape, strict=False
        )
    ]
    return SavedAs(
        info.full_name, " ".join(str(size) for size in info.full_shape) + " " + ":".join(parts)
    )


def find_variables(
    graph: Graph, saver: SaverKeys, checkpoint: CheckpointKeys | None, needed: set[str]
) -> tuple[Variable, ...]:
    """Every variable node of the graph.

    Args:
        needed: the train targets' ancestors.
    """
    declared = declared_variables(graph.meta)
    names = graph.variables()
    writers = _writers_by_variable(graph)
    trainable = trainable_variables(graph, declared, writers)
    slots = slots_by_variable(graph, writers, names, trainable)
    return tuple(
        _describe(
            graph,
            name,
            declared.get(name),
            saver,
            checkpoint,
            writers.get(name, ()),
            name in needed,
            slots.get(name),
            name in trainable,
        )
        for name in names
    )


def _describe(
    graph: Graph,
    name: str,
    said: Declared | None,
    saver: SaverKeys,
    checkpoint: CheckpointKeys | None,
    writers: Iterable[str],
    needed: bool,
    slot_of: str | None,
    trainable: bool,
) -> Variable:
    node = graph.view.nodes[name]
    place = _place(name, said, saver, checkpoint)
    initializer = (
        said.initializer
        if said and said.initializer in graph.view
        else _initializer(graph, name, writers)
    )
    collections = said.collections if said else frozenset()
    return Variable(
        name=name,
        kind="resource" if node.op == "VarHandleOp" else "ref",
        dtype=dtype_name(attribute(node, "dtype").type),
        shape=shape_of(attribute(node, "shape").shape),
        initializer=initializer,
        key=place.key if place else None,
        slice_spec=place.slice_spec if place else "",
        saved_shape=place.whole_shape if place else None,
        trainable=trainable,
        local=LOCAL in collections and GLOBAL not in collections,
        slot_of=slot_of,
        needed=needed,
    )


def _place(
    name: str, said: Declared | None, saver: SaverKeys, checkpoint: CheckpointKeys | None
) -> SavedAs | None:
    if name in saver.variables:
        return saver.variables[name]
    if (
        said is not None
        and said.saved_as is not None
        and (not saver.found or _held(said.saved_as.key, checkpoint))
    ):
        return said.saved_as
    if not saver.found or _held(name, checkpoint):
        return SavedAs(name)
    return None


def _held(key: str, checkpoint: CheckpointKeys | None) -> bool:
    return checkpoint is not None and key in checkpoint


def _writers_by_variable(graph: Graph) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in graph.view.nodes:
        if graph.traits(name).writes:
            variable = graph.variable_of(name)
            if variable is not None:
                found.setdefault(variable, []).append(name)
    return found


def _initializer(graph: Graph, name: str, writers: Iterable[str]) -> str | None:
    """The assignment that initialises a variable no collection describes: the one that TensorFlow
    names after it.
    """
    own = f"{name}/Assign"
    assignments = [
        writer for writer in writers if graph.view.op(writer) in ("Assign", "AssignVariableOp")
    ]
    if own in assignments:
        return own
    return next((writer for writer in assignments if writer.startswith(f"{name}/")), None)


def trainable_variables(
    graph: Graph, declared: Mapping[str, Declared], writers: Mapping[str, list[str]]
) -> set[str]:
    """Those of the trainable collection; without it, those that an optimizer updates, and those that
    gradients are computed with and that are assigned what is computed from gradients.
    """
    listed = {
        name
        for name, said in declared.items()
        if TRAINABLE in said.collections and name in graph.view
    }
    if listed:
        return listed
    scoped = [name for name in graph.view.nodes if graph.gradient_scope(name) is not None]
    fed = graph.view.descendants(scoped, control=False)
    with_gradient = graph.view.ancestors(scoped, control=False)
    return {
        name
        for name, by in writers.items()
        if any(graph.traits(writer).update or graph.traits(writer).scatter for writer in by)
        or (name in with_gradient and not fed.isdisjoint(by))
    }


def slots_by_variable(
    graph: Graph, writers: Mapping[str, list[str]], names: Iterable[str], trainable: set[str]
) -> dict[str, str]:
    """Optimizer slots to the variable that each belongs to: by the updates' inputs, then by name
    (``var/Adam``).
    """
    found: dict[str, str] = {}
    for owner, by in writers.items():
        for writer in by:
            if graph.traits(writer).update:
                found.update((slot, owner) for slot in _slot_inputs(graph, writer) if slot != owner)
    for name in names:
        prefix = name.rpartition("/")[0]
        if (
            name not in found
            and name not in trainable
            and prefix in trainable
            and _same_shape(graph, name, prefix)
        ):
            found[name] = prefix
    return found


def _slot_inputs(graph: Graph, writer: str) -> Iterator[str]:
    definition = graph.definition(writer)
    for argument, edge in zip(
        definition.input_arg if definition else (), graph.view.data[writer], strict=False
    ):
        if argument.is_ref or argument.type == DT_RESOURCE:
            variable = graph.variable_of(edge.node)
            if variable is not None:
                yield variable


def _same_shape(graph: Graph, one: str, other: str) -> bool:
    shapes: list[Shape] = [
        shape_of(attribute(graph.view.nodes[name], "shape").shape) for name in (one, other)
    ]
    return shapes[0] == shapes[1]
