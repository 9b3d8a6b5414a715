"""Which operations of a graph reach beyond it: files, Python code, the network?

Rule: a ``.meta`` is a program from somebody else. What a run would execute of it and that reads or writes files, runs code or opens
sockets is refused unless the operator declared it (``--allow-op``, ``--path-map`` for files, ``--py-func`` for Python functions); what
no run executes (the savers' own operations, unused branches) is only listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.constants import strings_in
from orchestrator.graph.library import label, reachable_functions
from orchestrator.graph.opset import OpSet
from orchestrator.graph.reaches import PYTHON, Reach, reach_of, reaches_out
from orchestrator.graph.worker_graph import Problem

PASSING = frozenset(
    {"Identity", "RandomShuffle", "ExpandDims", "Reshape", "StringJoin", "Pack", "ConcatV2", "TensorSliceDataset"}
)
"""Operations that a file name passes on its way from a constant to its reader."""


@dataclass(frozen=True)
class UntrustedOp:
    """All nodes of one operation type that reach beyond the graph.

    Attributes:
        reach: what they do out there.
        nodes: those that a run executes; ``idle`` those that it doesn't.
        names: the file names, addresses and tokens found beside them (constants only).
        declared: the operator allowed the type, or declared every file or function that its nodes name.
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
    py_func: Mapping[str, str] | None = None,
) -> tuple[UntrustedOp, ...]:
    """Everything in ``graph`` that reaches beyond it, function bodies included; linear.

    Args:
        executed: names of the top-level nodes that a run executes; None for all.
        allow, path_map, py_func: what the operator declared (``RunConfig.allow_op`` and so on).
    """
    reaches: dict[str, Reach | None] = {}
    found: dict[str, list[tuple[str, str, NodeDef]]] = defaultdict(list)
    for state, function, node in _placed(graph, executed):
        if node.op not in reaches:
            reaches[node.op] = reach_of(node.op, ops.get(node.op))
        if reaches[node.op] is not None and reaches_out(node):
            found[node.op].append((state, label(function, node.name), node))
    constants = _Names(graph) if found else None
    answer = []
    for op_type, places in sorted(found.items()):
        names = {state: _names(constants, [node for its, _, node in places if its == state]) for state in ("executed", "idle")}
        reach = reaches[op_type]
        assert reach is not None
        answer.append(
            UntrustedOp(
                op_type=op_type,
                reach=reach,
                nodes=tuple(said for state, said, _ in places if state == "executed"),
                idle=tuple(said for state, said, _ in places if state == "idle"),
                names=tuple(sorted(names["executed"] or names["idle"])),
                declared=op_type in allow or _declared(op_type, reach, names["executed"], path_map or {}, py_func or {}),
            )
        )
    return tuple(answer)


def _placed(graph: GraphDef, executed: Collection[str] | None) -> Iterator[tuple[str, str, NodeDef]]:
    running = [node for node in graph.node if executed is None or node.name in executed]
    reached = reachable_functions(graph, running)
    for node in graph.node:
        yield "executed" if executed is None or node.name in executed else "idle", "", node
    for function in graph.library.function:
        name = function.signature.name
        for node in function.node_def:
            yield "executed" if name in reached else "idle", name, node


class _Names:
    """File names, addresses and tokens that stand beside a node: in its attributes, and in the constants that feed it."""

    def __init__(self, graph: GraphDef) -> None:
        self.nodes = {node.name: node for node in graph.node}

    def of(self, node: NodeDef) -> set[str]:
        attributes = ("token", "filename", "file_pattern", "vocab_file", "server_address", "output_stream")
        found = {
            node.attr[name].s.decode("utf-8", "replace")
            for name in attributes
            if name in node.attr and node.attr[name].WhichOneof("value") == "s"
        }
        pending, seen = [(text, 0) for text in node.input], set[str]()
        while pending and len(seen) < 100:
            text, depth = pending.pop()
            name = text.partition(":")[0]
            source = self.nodes.get(name)
            if source is None or name in seen:
                continue
            seen.add(name)
            if source.op == "Const" and "value" in source.attr:
                found.update(value for value in strings_in(source.attr["value"].tensor) if value)
            elif source.op in PASSING and depth < 10:
                pending.extend((inner, depth + 1) for inner in source.input)
        return {name for name in found if name}


def _names(constants: _Names | None, nodes: Iterable[NodeDef]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if constants is not None and len(found) < 1000:
            found |= constants.of(node)
    return found


def _declared(
    op_type: str, reach: Reach, names: Collection[str], path_map: Mapping[str, str], py_func: Mapping[str, str]
) -> bool:
    if op_type in PYTHON:
        return bool(names) and all(name in py_func for name in names)
    if reach == "reads files":
        return bool(names) and all(any(name.startswith(prefix) for prefix in path_map) for name in names)
    return False


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
