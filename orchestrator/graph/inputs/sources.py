"""Which files does an input pipeline read, and which Python functions does it call?

Rule: a file name is what reaches an argument that names files (``reaches.FILE_ARGUMENTS``), through
function arguments too; a Python function is a ``py_func``'s token, and the three that a
GeneratorDataset calls are told apart by the attribute that calls them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from tensorboard.compat.proto.graph_pb2 import GraphDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.external_ops import FILE_ARGUMENTS, PYTHON
from orchestrator.graph.graphdef.library import every_node
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.tensors import dtype_name, input_slots
from orchestrator.graph.inputs.bodies import PATTERNS, Bodies, NodePlace, ValueOrigins
from orchestrator.graph.inputs.pipeline import Files, PythonCall, Role

NAMING = (FILE_ARGUMENTS - {"new_vocab_file", "old_vocab_file"}) | {
    "patterns",
    "pattern",
    "data_source_name",
    "path",
}
"""Names of the arguments by which operations are told what to read; vocabularies that are remapped
at a warm start aren't read by a pipeline.
"""
READERS = ("ReaderRead",)
"""They take file names out of a queue, so that no argument names any."""
SLICES = frozenset({"TensorSliceDataset", "TensorDataset", "ListDataset"})
CACHES = ("CacheDataset",)
"""They write what they read; an empty name keeps it in memory."""
GENERATOR_ROLES: dict[str, Role] = {
    "init_func": "generator-start",
    "next_func": "generator-next",
    "finalize_func": "generator-end",
}


def files_of(bodies: Bodies, ops: OpSet, places: Sequence[NodePlace]) -> Iterator[Files]:
    """The files that the nodes at ``places`` read, one entry per node that reads."""
    for place in places:
        if place.node.op.startswith(READERS):
            origins = _queued(bodies, place)
        elif place.node.op.startswith(CACHES):
            continue
        else:
            named = file_inputs(ops, place)
            if not named:
                continue
            origins = bodies.origins(place.function, named)
            # A reader inside an interleave: its name is an element of the dataset that is
            # interleaved
            if origins.arguments:
                _add(origins, _sliced(bodies, places))
        yield _files(place, origins)


def file_inputs(ops: OpSet, place: NodePlace) -> list[str]:
    """The texts of the inputs by which a node is told what to read."""
    definition = ops.get(place.node.op)
    # Checkpoints' operations name files too, and are no input
    if definition is None or place.node.op.startswith(("Save", "Restore", "Merge")):
        return []
    inputs = [text for text in place.node.input if not text.startswith("^")]
    slots = input_slots(place.node, definition, frozenset(NAMING))
    return [inputs[slot] for slot in slots.values() if slot < len(inputs)]


def _files(place: NodePlace, origins: ValueOrigins) -> Files:
    names = tuple(dict.fromkeys(origins.strings))
    matched = place.node.op in PATTERNS or any(
        found.node.op in PATTERNS for found in origins.computed
    )
    # A pattern is matched when the pipeline starts, so what it's computed from counts for nothing
    if matched and names:
        return Files(place.node.op, place.label, names, "pattern")
    if origins.placeholders and not names:
        return Files(
            place.node.op,
            place.label,
            (),
            "placeholder",
            tuple(dict.fromkeys(origins.placeholders)),
        )
    if origins.computed or not names:
        return Files(
            place.node.op,
            place.label,
            names,
            "computed",
            tuple(dict.fromkeys(origins.placeholders)),
        )
    return Files(place.node.op, place.label, names, "constant")


def _add(into: ValueOrigins, other: ValueOrigins) -> None:
    into.strings.extend(other.strings)
    into.constants.extend(other.constants)
    into.placeholders.extend(other.placeholders)
    into.computed.extend(other.computed)


def _sliced(bodies: Bodies, places: Iterable[NodePlace]) -> ValueOrigins:
    """The elements of the datasets that stand at the beginning: what a function's argument takes
    its values from.
    """
    found = ValueOrigins()
    for place in places:
        if place.node.op in SLICES or place.node.op in PATTERNS:
            _add(found, bodies.origins(place.function, bodies.data_inputs(place)))
            if place.node.op in PATTERNS:
                found.computed.append(place)
    return found


def _queued(bodies: Bodies, reader: NodePlace) -> ValueOrigins:
    """What is put into the queue from which a reader takes its file names."""
    found = ValueOrigins()
    handles = bodies.data_inputs(reader)
    queue = bodies.find(reader.function, handles[1]) if len(handles) > 1 else None
    if queue is None:
        return found
    for node in bodies.enqueues[queue.node.name]:
        _add(found, bodies.origins("", bodies.data_inputs(NodePlace("", node))[1:]))
    return found


def python_calls(places: Sequence[NodePlace]) -> Iterator[PythonCall]:
    """The Python functions that the nodes at ``places`` call, one entry per ``py_func``."""
    roles: dict[str, tuple[Role, str]] = {}
    for place in places:
        if "GeneratorDataset" in place.node.op:
            for key, role in GENERATOR_ROLES.items():
                if key in place.node.attr:
                    roles[place.node.attr[key].func.name] = (role, place.label)
    for place in sorted(places, key=lambda place: place.label):
        node = place.node
        if node.op in PYTHON:
            role, generator = roles.get(place.function, ("function", ""))
            takes, gives = (
                tuple(dtype_name(number) for number in attribute(node, key).list.type)
                for key in ("Tin", "Tout")
            )
            token = attribute(node, "token").s.decode("utf-8", "replace")
            yield PythonCall(
                token, place.label, role, takes, gives, node.op == "EagerPyFunc", generator
            )


def python_places(graph: GraphDef) -> list[NodePlace]:
    """The nodes of a graph and its function bodies that have to do with Python functions: few or
    none of them.
    """
    return [
        NodePlace(function, node)
        for function, node in every_node(graph)
        if node.op in PYTHON or "GeneratorDataset" in node.op
    ]


def revived_tokens(graph: GraphDef, functions: Collection[str]) -> set[str]:
    """The tokens that have a function again: those given, and a generator's three where the one for
    its elements was given.
    """
    calls = list(python_calls(python_places(graph))) if functions else []
    following = {
        call.generator
        for call in calls
        if call.role == "generator-next" and call.token in functions
    }
    return {*functions, *(call.token for call in calls if call.generator in following)}
