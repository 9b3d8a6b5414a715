"""Which input pipelines of a graph can run in another process than the one that made them?

Rule: a pipeline is dead if its data came out of that process: a Python function, a placeholder that
a thread fed, an enqueue operation that isn't in the graph. What else it reads (files) is for
whoever starts it to find.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.collection_protos import QueueRunnerDef
from orchestrator.graph.graphdef.library import reachable_functions
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.view import parse_tensor, resolve_alias

PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
Runner = tuple[str, tuple[str, ...], str, str]


@dataclass(frozen=True)
class Pipelines:
    """What became of the pipelines asked about.

    Attributes:
        live: Dequeue and GetNext nodes whose pipeline can run.
        dead: the others, with the reason.
        initializers: operations that initialise live iterators.
        queue_runners: (queue, enqueue operations, close operation, cancel operation) of live
            queues.
    """

    live: frozenset[str] = frozenset()
    dead: Mapping[str, str] = field(default_factory=dict)
    initializers: tuple[str, ...] = ()
    queue_runners: tuple[Runner, ...] = ()


def read_pipelines(
    graph: Graph, sources: Iterable[str], revived: Collection[str] = ()
) -> Pipelines:
    """The pipelines behind ``sources``: Dequeue and GetNext nodes.

    Args:
        revived: tokens of Python functions that the run has again.
    """
    runners = {runner[0]: runner for runner in queue_runners(graph)}
    live: set[str] = set()
    dead: dict[str, str] = {}
    makers: dict[str, None] = {}
    used: dict[str, Runner] = {}
    for name in sorted(sources):
        iterators = graph.traits(name).source == "iterator"
        started, reason = _iterator(graph, name, revived) if iterators else ((), "")
        needed, reason = (
            (_queues(graph, name, runners, used, revived)) if not iterators else ((), reason)
        )
        if reason:
            dead[name] = reason
            continue
        live.add(name)
        makers.update(dict.fromkeys(started))
        used.update({runner[0]: runner for runner in needed})
    return Pipelines(frozenset(live), dead, tuple(makers), tuple(used.values()))


def queue_runners(graph: Graph) -> Iterator[Runner]:
    """The graph's queue runners."""
    if "queue_runners" not in graph.meta.collection_def:
        return
    for value in graph.meta.collection_def["queue_runners"].bytes_list.value:
        try:
            runner = QueueRunnerDef.FromString(value)
        except DecodeError:
            continue  # its queue is told as one that nothing fills
        enqueues = tuple(parse_tensor(name).node for name in runner.enqueue_op_name)
        yield (
            parse_tensor(runner.queue_name).node,
            enqueues,
            runner.close_op_name,
            runner.cancel_op_name,
        )


def _handle(graph: Graph, name: str) -> str:
    data = graph.view.data[name]
    return resolve_alias(graph.view, data[0], ALIASES).node if data else ""


def _queues(
    graph: Graph,
    name: str,
    runners: Mapping[str, Runner],
    used: Mapping[str, Runner],
    revived: Collection[str],
) -> tuple[tuple[Runner, ...], str]:
    """The runners that keep ``name`` supplied, through all queues that feed its queue, or why there
    are none.
    """
    found: dict[str, Runner] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        queue = _handle(graph, current)
        if queue in found or queue in used:
            continue
        if queue not in runners:
            return (), f"no queue runner fills {queue or current}"
        found[queue] = runners[queue]
        enqueues = [op for op in runners[queue][1] if op in graph.view]
        if not enqueues:
            return (), f"the operations that fill {queue} aren't in the graph"
        closure = graph.view.ancestors(
            enqueues, stop=lambda node: bool(graph.traits(node).source == "queue")
        )
        reason = _from_outside(graph, closure, revived)
        if reason:
            return (), reason
        # A queue that takes its rows out of another, and a reader that takes its file names out of
        # one, stand still unless that one is filled too
        inner = {node for node in closure if graph.traits(node).source == "queue"}
        files = {
            _queue_of_reader(graph, node)
            for node in closure
            if graph.traits(node).source == "reader"
        }
        waiting.extend(sorted(inner))
        for feeding in sorted(files - set(found) - set(used) - {""}):
            if feeding not in runners:
                return (), f"no queue runner fills {feeding}"
            found[feeding] = runners[feeding]
    return tuple(found.values()), ""


def _queue_of_reader(graph: Graph, name: str) -> str:
    data = graph.view.data[name]
    return resolve_alias(graph.view, data[1], ALIASES).node if len(data) > 1 else ""


def _iterator(graph: Graph, name: str, revived: Collection[str]) -> tuple[tuple[str, ...], str]:
    """The operations that initialise the iterator behind ``name``, or why none can."""
    iterator = _handle(graph, name)
    # It initialises itself; what it calls may be lost all the same
    if graph.view.op(iterator) == "OneShotIterator":
        return (), _from_outside(graph, {iterator}, revived)
    makers = [
        use.node
        for use in graph.view.uses.get(iterator, ())
        if graph.view.op(use.node) == "MakeIterator"
    ]
    if not makers:
        return (), f"nothing initialises {iterator or name}"
    if len(makers) > 1:
        return (
            (),
            f"{len(makers)} data sets can initialise {iterator}, and the graph doesn't say which",
        )
    return tuple(makers), _from_outside(graph, graph.view.ancestors(makers), revived)


def _from_outside(graph: Graph, closure: set[str], revived: Collection[str]) -> str:
    nodes = [graph.view.nodes[name] for name in sorted(closure)]
    for node in nodes:
        if node.op in PYTHON and token_of(node) not in revived:
            return f"{node.name} ran a Python function that is gone"
        if node.op in ("Placeholder", "PlaceholderV2"):
            return f"{node.name} was fed by the program that is gone"
    for function in reachable_functions(graph.meta.graph_def, nodes).values():
        for node in function.node_def:
            if node.op in PYTHON and token_of(node) not in revived:
                return (
                    f"{node.name} in {function.signature.name} ran a Python function that is gone"
                )
    return ""


def token_of(node: NodeDef) -> str:
    """The token by which a ``py_func`` finds its Python function."""
    token: bytes = attribute(node, "token").s
    return token.decode("utf-8", "replace")
