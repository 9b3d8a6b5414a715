"""Which operations of a graph reach beyond it: files, Python code, the network?

Rule: a ``.meta`` is a program from somebody else. What a run would execute of it and that reads or
writes files, runs code or opens sockets is refused unless the operator declared it (``--allow-op``,
``--path-map`` for files that are read, ``--py-func`` for Python functions); what no run executes
(the savers' own operations, unused branches) is only listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tensorboard.compat.proto.graph_pb2 import GraphDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.external_ops import PYTHON, Reach, reach_of, reaches_out
from orchestrator.graph.graphdef.library import every_node, reachable_functions
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.inputs.bodies import Bodies, NodePlace
from orchestrator.graph.inputs.path_map import lies_below
from orchestrator.graph.inputs.pipeline import Files
from orchestrator.graph.inputs.sources import CACHES, file_inputs, files_of
from orchestrator.graph.problem import Problem

NAMING_ATTRIBUTES = (
    "token",
    "filename",
    "file_pattern",
    "vocab_file",
    "server_address",
    "output_stream",
    "memory_region_name",
)
"""Attributes that say where an operation goes; most are inputs instead."""


@dataclass(frozen=True)
class UntrustedOp:
    """All nodes of one operation type that reach beyond the graph.

    Attributes:
        reach: what they do out there.
        nodes: those that a run executes; ``idle`` those that it doesn't.
        names: the file names, addresses and tokens found beside them (constants only).
        declared: the operator allowed the type, or declared every file or function that its nodes
            name.
    """

    op_type: str
    reach: Reach
    nodes: tuple[str, ...]
    idle: tuple[str, ...]
    names: tuple[str, ...]
    declared: bool


def untrusted_ops(
    graph: GraphDef,
    ops: OpSet,
    executed: Collection[str] | None,
    *,
    allow: Collection[str] = (),
    path_map: Mapping[str, str] | None = None,
    py_func: Collection[str] = (),
) -> tuple[UntrustedOp, ...]:
    """Everything in ``graph`` that reaches beyond it, function bodies included; linear.

    Args:
        executed: names of the top-level nodes that a run executes; None for all.
        allow, path_map, py_func: what the operator declared (``RunConfig.allow_op`` and so on).
    """
    found = _reaching(graph, ops, executed)
    if not found:
        return ()
    bodies = Bodies(graph)
    by_type: dict[str, list[_Reaching]] = defaultdict(list)
    for item in found:
        if not _caches_in_memory(bodies, ops, item.place):
            by_type[item.place.node.op].append(item)
    running = [item.place for item in found if item.runs]
    files = {
        item.node: item for item in files_of(bodies, ops, _with_sources(graph, executed, running))
    }
    answer = []
    for op_type, items in sorted(by_type.items()):
        acting = [item.place for item in items if item.runs]
        names = {
            name for place in acting for name in _names(place, files.get(place.label), bodies, ops)
        }
        declared = op_type in allow or (
            bool(acting)
            and all(
                _declared(place, items[0].reach, files.get(place.label), path_map or {}, py_func)
                for place in acting
            )
        )
        answer.append(
            UntrustedOp(
                op_type=op_type,
                reach=items[0].reach,
                nodes=tuple(place.label for place in acting),
                idle=tuple(item.place.label for item in items if not item.runs),
                names=tuple(sorted(names)),
                declared=declared,
            )
        )
    return tuple(answer)


@dataclass(frozen=True)
class _Reaching:
    """A node that reaches out, and whether a run executes it."""

    place: NodePlace
    reach: Reach
    runs: bool


def _reaching(graph: GraphDef, ops: OpSet, executed: Collection[str] | None) -> list[_Reaching]:
    reaches: dict[str, Reach | None] = {}
    reached = reachable_functions(
        graph, [node for node in graph.node if executed is None or node.name in executed]
    )
    found: list[_Reaching] = []
    for function, node in every_node(graph):
        if node.op not in reaches:
            reaches[node.op] = reach_of(node.op, ops.get(node.op))
        reach = reaches[node.op]
        if reach is not None and reaches_out(node):
            runs = function in reached if function else executed is None or node.name in executed
            found.append(_Reaching(NodePlace(function, node), reach, runs))
    return found


def _with_sources(
    graph: GraphDef, executed: Collection[str] | None, running: list[NodePlace]
) -> list[NodePlace]:
    """The reading nodes and all datasets that a run executes: a function's argument takes its file
    names from those.
    """
    top = [node for node in graph.node if executed is None or node.name in executed]
    places = [NodePlace("", node) for node in top]
    places.extend(
        NodePlace(name, node)
        for name, function in reachable_functions(graph, top).items()
        for node in function.node_def
    )
    sources = [place for place in places if place.node.op.endswith(("Dataset", "DatasetV2"))]
    known = {place.label for place in sources}
    return [*sources, *(place for place in running if place.label not in known)]


def _caches_in_memory(bodies: Bodies, ops: OpSet, place: NodePlace) -> bool:
    """A CacheDataset without a file name keeps its elements in memory."""
    if not place.node.op.startswith(CACHES):
        return False
    origins = bodies.origins(place.function, file_inputs(ops, place))
    return not (origins.strings or origins.placeholders or origins.computed or origins.arguments)


def _names(place: NodePlace, files: Files | None, bodies: Bodies, ops: OpSet) -> set[str]:
    """File names, addresses and tokens beside a node: in its attributes, and in the constants that
    tell it where to go.
    """
    found = set(files.names) if files is not None else set()
    found.update(
        attribute(place.node, name).s.decode("utf-8", "replace") for name in NAMING_ATTRIBUTES
    )
    definition = ops.get(place.node.op)
    if definition is not None and reach_of(place.node.op, definition) == "opens sockets":
        found.update(bodies.origins(place.function, bodies.data_inputs(place)[:1]).strings)
    return {name for name in found if name}


def _declared(
    place: NodePlace,
    reach: Reach,
    files: Files | None,
    path_map: Mapping[str, str],
    py_func: Collection[str],
) -> bool:
    if place.node.op in PYTHON:
        return attribute(place.node, "token").s.decode("utf-8", "replace") in py_func
    return (
        # a mapped file may be read: nobody who says where data lies means that it may be
        # overwritten
        reach == "reads files"
        and files is not None
        and bool(files.names)
        and files.origin in ("constant", "pattern")
        and all(lies_below(name, (*path_map, *path_map.values())) for name in files.names)
    )


def untrusted_problems(found: Iterable[UntrustedOp]) -> tuple[Problem, ...]:
    """A refusal for every type that a run would execute and that nobody declared."""
    return tuple(
        Problem(
            "untrusted-op",
            "error",
            f"{item.op_type} {item.reach}{_beside(item.names)}, and the graph comes from outside",
            _remedy(item),
            item.nodes,
        )
        for item in found
        if item.nodes and not item.declared
    )


def _beside(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:3])
    return f" ({shown}{f' and {len(names) - 3} more' if len(names) > 3 else ''})"


def _remedy(item: UntrustedOp) -> str:
    allow = f"--allow-op {item.op_type} where you trust this graph"
    if item.op_type in PYTHON:
        token = item.names[0] if item.names else "TOKEN"
        return f"Give it a function with --py-func {token}=module:function, cut it out with --input-map, or {allow}"
    if item.reach == "reads files":
        return f"Declare its files with --path-map OLD=NEW, feed its output with --input or --input-map, or {allow}"
    return f"Cut it out with --input-map, or {allow}"
