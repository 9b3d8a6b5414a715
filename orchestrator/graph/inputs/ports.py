"""What does a step have to be fed?

Rule: only what the train targets need. A batch that the graph takes out of a queue or an iterator
is cut there: its consumers get a new placeholder, since feeding the Dequeue itself may still
dequeue and hang. The old node stays, for pulling when its pipeline is alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.constants import constant_integer
from orchestrator.graph.graphdef.edit import OWN, Editor, shape_attribute, type_attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import dtype_name, output_dtypes, shape_of
from orchestrator.graph.graphdef.view import Edge, parse_tensor
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_graph import InputPort, Shape

PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
Origin = Literal["queue", "iterator", "input_map"]
SCALAR_MEANS_UNKNOWN = 21
"""Up to this GraphDef version a placeholder of shape [] may as well have an unknown shape: the shape
function of Placeholder in ``core/ops/array_ops.cc``.
"""


@dataclass(frozen=True)
class Cut:
    """A tensor that a placeholder of ours replaces: the original, and the name under which users
    supply it.
    """

    tensor: Edge
    name: str
    origin: Origin
    dtype: str
    shape: Shape


def placeholders(graph: Graph, targets: Iterable[str]) -> tuple[InputPort, ...]:
    """The graph's own placeholders that the targets need."""
    targets = tuple(targets)
    closures = [graph.view.ancestors([target]) for target in targets]
    found: list[InputPort] = []
    for name, op in graph.view.ops.items():
        needed = tuple(index for index, closure in enumerate(closures) if name in closure)
        if op in PLACEHOLDERS and needed and not name.startswith(OWN):
            optional = op == "PlaceholderWithDefault"
            tensor = f"{name}:0"
            found.append(
                InputPort(
                    tensor,
                    tensor,
                    _dtype(graph, name),
                    placeholder_shape(graph, name),
                    optional=optional,
                    targets=needed,
                )
            )
    return tuple(found)


def placeholder_shape(graph: Graph, name: str) -> Shape:
    """The static shape of a placeholder, None where its rank is unknown."""
    attributes = graph.view.nodes[name].attr
    if "shape" not in attributes:
        return None
    shape = shape_of(attributes["shape"].shape)
    if (
        shape == ()
        and graph.view.op(name) == "Placeholder"
        and graph.meta.graph_def.versions.producer <= SCALAR_MEANS_UNKNOWN
    ):
        noted = attribute(graph.view.nodes[name], "_output_shapes").list.shape
        return shape_of(noted[0]) if noted else None
    return shape


def _dtype(graph: Graph, name: str) -> str:
    return dtype_name(attribute(graph.view.nodes[name], "dtype").type)


def mapped_cuts(graph: Graph, input_map: Mapping[str, str]) -> tuple[list[Cut], list[Problem]]:
    """What ``input_map`` asks for: tensor name to the key under which the value is supplied."""
    cuts: list[Cut] = []
    problems: list[Problem] = []
    for text, key in input_map.items():
        edge = find_tensor(graph, text)
        dtype = graph.dtype(edge) if edge is not None else ""
        if edge is None or not dtype:
            problems.append(
                Problem(
                    "unknown-tensor",
                    "error",
                    f"--input-map names {text}, which the graph doesn't have",
                    "See `tfresume inspect` for its tensors",
                    (text,),
                )
            )
        else:
            shape = (
                placeholder_shape(graph, edge.node)
                if graph.view.op(edge.node) in PLACEHOLDERS
                else None
            )
            cuts.append(Cut(edge, key, "input_map", dtype, shape))
    return cuts, problems


def mapped_shape(graph: Graph, edge: Edge) -> Shape:
    """The static shape of a tensor that batches replace where no training depends on it: a
    placeholder's own, a constant's for any number of rows, None where it can't be told.
    """
    if graph.view.op(edge.node) in PLACEHOLDERS:
        return placeholder_shape(graph, edge.node)
    if graph.view.op(edge.node) != "Const":
        return None
    shape = shape_of(graph.view.nodes[edge.node].attr["value"].tensor.tensor_shape)
    return (None, *shape[1:]) if shape else shape


def find_tensor(graph: Graph, text: str) -> Edge | None:
    """A tensor by its name, None where there is none: no such operation, or it has fewer outputs."""
    edge = parse_tensor(text)
    if edge.node not in graph.view:
        return None
    told = graph.definition(edge.node) is not None  # else its outputs aren't known
    return None if told and not graph.dtype(edge) else edge


def pipeline_cuts(graph: Graph, targets: Iterable[str], cut_already: set[Edge]) -> list[Cut]:
    """Where the targets take batches out of queues, iterators and readers: the outputs nearest to
    them.
    """
    closure = graph.view.ancestors(targets, stop=lambda name: bool(graph.traits(name).source))
    found: list[Cut] = []
    for name in graph.view.nodes:
        origin = graph.traits(name).source
        if name not in closure or not origin:
            continue
        types = output_dtypes(graph.view.nodes[name], graph.definition(name))
        shapes = element_shapes(graph, name, len(types))
        used = {use.port for use in graph.view.uses[name] if use.node in closure}
        for port, dtype in enumerate(types):
            edge = Edge(name, port)
            if port in used and edge not in cut_already:
                found.append(
                    Cut(
                        edge,
                        edge.tensor,
                        "iterator" if origin == "iterator" else "queue",
                        dtype,
                        shapes[port],
                    )
                )
    return found


def element_shapes(graph: Graph, name: str, count: int) -> tuple[Shape, ...]:
    """The static shapes of what a pipeline's last operation gives."""
    op, own = graph.view.op(name), graph.view.nodes[name]
    if op.startswith("IteratorGetNext"):
        shapes = [shape_of(shape) for shape in attribute(own, "output_shapes").list.shape]
    else:
        queue = graph.view.data[name][0].node if graph.view.data[name] else ""
        node = graph.view.nodes.get(queue)
        inner = (
            [shape_of(shape) for shape in attribute(node, "shapes").list.shape]
            if node is not None
            else []
        )
        many = "Many" in op or "UpTo" in op
        # Gradients are built for the static batch size; another one would be averaged by the wrong
        # number in silence
        rows = (
            constant_integer(graph.view, graph.view.data[name][1])
            if "Many" in op and len(graph.view.data[name]) > 1
            else None
        )
        shapes = [None if shape is None else ((rows, *shape) if many else shape) for shape in inner]
    return tuple(shapes) if len(shapes) == count else (None,) * count


def apply_cuts(
    editor: Editor, graph: Graph, cuts: Iterable[Cut], pulled: set[str]
) -> tuple[InputPort, ...]:
    """Put a placeholder in place of each cut tensor.

    Args:
        graph: the graph as the editor has it.
        pulled: nodes whose pipelines run in the worker, so that their outputs are fetched and fed.
    """
    ports: list[InputPort] = []
    first_of: dict[str, str] = {}
    for number, cut in enumerate(cuts):
        attributes = {"dtype": type_attribute(cut.dtype), "shape": shape_attribute(cut.shape)}
        name = editor.add("Placeholder", f"input/{number}", attributes=attributes)
        first_of.setdefault(cut.tensor.node, name)
        for use in graph.view.uses[cut.tensor.node]:
            if use.port == cut.tensor.port:
                editor.set_input(use.node, use.slot, Edge(name, 0))
        pull = cut.tensor.tensor if cut.tensor.node in pulled else None
        ports.append(
            InputPort(f"{name}:0", cut.name, cut.dtype, cut.shape, origin=cut.origin, pull=pull)
        )
    # Who waits for the old node by a control edge would run it still: a Dequeue that nobody pulls
    # from would take a batch, or wait for ever
    for old, new in first_of.items():
        if graph.traits(old).source:
            for waiting in graph.view.control_uses[old]:
                editor.replace_control(waiting, old, new)
    return tuple(ports)


def with_targets(
    graph: Graph, ports: Iterable[InputPort], targets: Iterable[str]
) -> tuple[InputPort, ...]:
    """The ports that the targets need, each with the indices of those that do."""
    closures = [graph.view.ancestors([target]) for target in targets]
    found = []
    for port in ports:
        node = parse_tensor(port.tensor).node
        needed = tuple(index for index, closure in enumerate(closures) if node in closure)
        if needed:
            found.append(replace(port, targets=needed))
    return tuple(found)
