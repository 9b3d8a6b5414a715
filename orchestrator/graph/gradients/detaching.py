"""How is a writer taken out of the way of what has to be known before anything is written?

Rule: what a seam exchanges doesn't wait for writers. A control edge from a writer into what is
computed with goes, and the writer is hung behind the barrier; writers that the values take data
from can't be moved, and neither can those whose variable the values read afterwards: then the graph
runs on one worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.graph.graphdef.branches import Branch, Branches
from orchestrator.graph.graphdef.flow import Flow
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.view import Edge


@dataclass(frozen=True)
class Detachment:
    """Which control edges go, so that no writer stands before a seam.

    Attributes:
        dropped: consumer to the sources that it no longer waits for.
        hung: those sources, which now belong behind the barrier, in the graph's order.
        moved: the writers concerned.
        branches: the conditionals around those of ``hung`` that stand in some: whoever waits for
            what a conditional doesn't run wouldn't run either.
        refused: why it can't be done; empty where it can.
    """

    dropped: dict[str, set[str]] = field(default_factory=dict)
    hung: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    branches: dict[str, tuple[Branch, ...]] = field(default_factory=dict)
    refused: str = ""


def detach(graph: Graph, closure: set[str], sources: Iterable[str], flow: Flow) -> Detachment:
    """The control edges to drop so that no writer is an ancestor of ``sources``, the nodes whose
    values are exchanged.
    """
    sources = set(sources)
    before = graph.view.ancestors(sources) & closure
    writers = [name for name in graph.view.nodes if name in before and graph.writes(name)]
    if not writers:
        return Detachment()
    moved, dropped = _pulled_along(graph, before, sources, writers)
    needed = sorted(moved & sources)
    if needed:
        return Detachment(
            refused=f"{_first_above(graph, needed[0], writers)} writes a variable, and the gradients are computed from its result"
        )
    conflict = _read_after_write(graph, before, moved, dropped, writers)
    if conflict:
        return Detachment(refused=conflict)
    lost = {source for sources in dropped.values() for source in sources}
    hung = tuple(name for name in graph.view.nodes if name in lost)
    branches: dict[str, tuple[Branch, ...]] = {}
    # The barrier waits for what was detached. Of a conditional that can be told for each branch;
    # in a loop there is no single run to wait for
    for name in (name for name in hung if not flow.once(name)):
        around = Branches(graph.view).around(Edge(name, -1), flow.depths)
        if not around:
            return Detachment(
                refused=f"{name} writes a variable in a loop or conditional that the gradients wait for"
            )
        branches[name] = around
    return Detachment(dropped, hung, tuple(writers), branches)


def _pulled_along(
    graph: Graph, before: set[str], sources: set[str], writers: Iterable[str]
) -> tuple[set[str], dict[str, set[str]]]:
    """What depends on the writers and isn't computed with by the gradients, and the control edges
    that leave it.

    A control edge into something that ``sources`` take data from is dropped; everything else that
    waits for a writer goes along.
    """
    computed_with = graph.view.ancestors(sources, control=False)
    moved = set(writers)
    dropped: dict[str, set[str]] = {}
    waiting = list(moved)
    while waiting:
        name = waiting.pop()
        following = [use.node for use in graph.view.uses[name]]
        for target in graph.view.control_uses[name]:
            if target in computed_with:
                dropped.setdefault(target, set()).add(name)
            else:
                following.append(target)
        for target in following:
            if target in before and target not in moved:
                moved.add(target)
                waiting.append(target)
    return moved, {target: lost for target, lost in dropped.items() if target not in moved}


def _first_above(graph: Graph, name: str, writers: Iterable[str]) -> str:
    above = graph.view.ancestors([name])
    return next((writer for writer in writers if writer in above), name)


def _read_after_write(
    graph: Graph,
    before: set[str],
    moved: set[str],
    dropped: dict[str, set[str]],
    writers: Iterable[str],
) -> str:
    """A read that had to come after one of the writers and would now come before it; ``""`` where
    there is none.
    """
    later = graph.view.descendants(dropped, within=before) - moved
    branches: Branches | None = None
    for writer in writers:
        for variable in graph.written_by(writer):
            for reader in _readers(graph, variable):
                if reader not in later:
                    continue
                branches = branches or Branches(graph.view)
                # On the other branch of the writer's conditional it never runs in the same step
                if not branches.exclusive(reader, writer):
                    return f"{reader} reads {variable} after {writer} has written it, and the gradients depend on both"
    return ""


def _readers(graph: Graph, variable: str) -> list[str]:
    readers: list[str] = []
    # A reference passes through an alias (Identity) unread: whoever takes it there reads
    for use in graph.view.uses[variable]:
        readers.append(use.node)
        if graph.view.op(use.node) in ALIASES:
            readers.extend(further.node for further in graph.view.uses[use.node])
    return [name for name in readers if not graph.writes(name)]
