"""How do a graph's random operations draw the same numbers again after a retry, a re-form or a
resume?

Rule: stateful random operations become their stateless form, keyed by what is fed for the step
(``STEP_FEED``: seed, rank and global step) and a constant of the node's own. In a loop the key
moves on with each iteration. What comes after the gradients (noise added to them) must be the same
on all ranks and is keyed without the rank. Function bodies get the key as an argument
(``random_functions``). Operations without a stateless form are listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.graph.graphdef.edit import (
    Editor,
    constant_attributes,
    shape_attribute,
    type_attribute,
)
from orchestrator.graph.graphdef.flow import Flow, read_flow
from orchestrator.graph.graphdef.library import reachable_functions
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, parse_tensor
from orchestrator.graph.problem import Problem
from orchestrator.graph.random.loop_keys import LoopKeys
from orchestrator.graph.random.node_key import node_key
from orchestrator.graph.random.random_functions import KeyedFunctions
from orchestrator.graph.random.stateless import STATELESS, make_stateless
from orchestrator.graph.worker_graph import GROUP_STEP_FEED, STEP_FEED

HOST = "/device:CPU:0"
"""Seeds are read on the host; computing them on a GPU would wait for it in every step."""


@dataclass(frozen=True)
class RandomReport:
    """What became of random operations.

    Attributes:
        stateless: nodes that draw by key now.
        stateful: nodes (or ``node (in function f)``) that draw by luck still.
        rng_feed, group_rng_feed: what has to be fed, None where nothing draws from it.
    """

    stateless: tuple[str, ...] = ()
    stateful: tuple[str, ...] = ()
    rng_feed: str | None = None
    group_rng_feed: str | None = None


def random_problems(stateful: tuple[str, ...]) -> tuple[Problem, ...]:
    """A warning that names the operations which draw from a hidden state still."""
    if not stateful:
        return ()
    shown = ", ".join(stateful[:4]) + (
        f" and {len(stateful) - 4} more" if len(stateful) > 4 else ""
    )
    said = f"{shown} draw from a hidden state: there is no stateless form of them, so a step taken again draws other numbers"
    return (
        Problem(
            "stateful-random",
            "warning",
            said,
            "Nothing, unless runs have to repeat bit by bit",
            stateful,
        ),
    )


def make_random_ops_stateless(
    editor: Editor, ops_graph: Graph, targets: Iterable[str]
) -> RandomReport:
    """Rewrite the random operations among the ancestors of ``targets`` in the editor's graph.

    Args:
        ops_graph: the graph as the editor has it.
    """
    graph = ops_graph
    closure = graph.view.ancestors(targets)
    names = [name for name in graph.view.nodes if name in closure]
    drawing = [name for name in names if graph.traits(name).random]
    functions = KeyedFunctions(editor, graph)
    calling = [name for name in names if functions.reaches(graph.view.nodes[name])]
    if not drawing and not calling:
        return RandomReport(stateful=_in_functions(graph, closure))
    # Noise that is added to gradients is applied by each rank for itself: drawn by rank, it would
    # set the ranks' variables apart
    shared = {*drawing, *calling} - before_gradients(graph, closure)
    keys = _Keys(editor, graph, read_flow(graph.view))
    done: list[str] = []
    left: list[str] = []
    for name in drawing:
        if graph.view.op(name) in STATELESS and keys.reaches(name):
            make_stateless(editor, graph, name, keys.of(name, _feed(name, shared)))
            done.append(name)
        else:
            left.append(name)
    for name in calling:
        if keys.reaches(name):
            functions.pass_key(editor.node(name), keys.of(name, _feed(name, shared)).text)
    # A key that no node took isn't in the graph, and feeding it would fail
    used = keys.feeds
    return RandomReport(
        (*done, *functions.done),
        (*left, *_in_functions(graph, closure)),
        STEP_FEED if STEP_FEED in used else None,
        GROUP_STEP_FEED if GROUP_STEP_FEED in used else None,
    )


def _feed(name: str, shared: set[str]) -> str:
    return GROUP_STEP_FEED if name in shared else STEP_FEED


def before_gradients(graph: Graph, closure: set[str]) -> set[str]:
    """The nodes that gradients are computed from; all of them where no gradient scope is known."""
    scoped = [name for name in closure if graph.gradient_scope(name) is not None]
    return graph.view.ancestors(scoped) if scoped else closure


class _Keys:
    """Gives each random node the key that it draws with."""

    def __init__(self, editor: Editor, graph: Graph, flow: Flow) -> None:
        self._editor = editor
        self._flow = flow
        self._loops = LoopKeys(editor, graph, flow)
        self.feeds: dict[str, Edge] = {}

    def reaches(self, name: str) -> bool:
        """Whether a key can be brought to the node."""
        return self._loops.reaches(name)

    def of(self, name: str, feed: str) -> Edge:
        """The key of ``name``, int64 ``[2]``: what is fed, moved on by the loops around it, mixed
        with the node's own constant.
        """
        base = self._loops.at(name, feed, self._fed(feed))
        # In a loop, after a node of its frame: a constant that waits for nothing stands outside of
        # it
        looped = bool(self._flow.frames.get(name))
        own = self._editor.add(
            "Const",
            f"random/{name}/own",
            controls=[base.node] if looped else (),
            attributes=constant_attributes(node_key(name)),
            device="" if looped else HOST,
        )
        mixed = self._editor.add(
            "BitwiseXor",
            f"random/{name}/key",
            [base, Edge(own, 0)],
            attributes={"T": type_attribute("int64")},
            device="" if looped else HOST,
        )
        return Edge(mixed, 0)

    def _fed(self, feed: str) -> Edge:
        if feed not in self.feeds:
            attributes = {"dtype": type_attribute("int64"), "shape": shape_attribute((2,))}
            node = self._editor.add(
                "Placeholder", parse_tensor(feed).node, attributes=attributes, device=HOST
            )
            self.feeds[feed] = Edge(node, 0)
        return self.feeds[feed]


def _in_functions(graph: Graph, closure: set[str]) -> tuple[str, ...]:
    """Those left in the bodies that the nodes call as they are now: edits are made in place."""
    nodes = [graph.view.nodes[name] for name in graph.view.nodes if name in closure]
    found: list[str] = []
    for function in reachable_functions(graph.meta.graph_def, nodes).values():
        found.extend(
            f"{node.name} (in function {function.signature.name})"
            for node in function.node_def
            if graph.random_type(node.op)
        )
    return tuple(found)
