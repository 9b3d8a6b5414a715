"""How does a step stay atomic when the exchange in its middle fails?

Rule: one barrier stands after all seams and before every writer. Writers that had stood before the gradients by control edges are
detached and hung between the barrier and the other writers, so that the order among writers stays; writers that the gradients take data
from can't be moved, and neither can those whose variable the gradients read afterwards: then the graph runs on one worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.graph.edit import Editor
from orchestrator.graph.flow import Frame
from orchestrator.graph.nodes import ALIASES, Graph


@dataclass(frozen=True)
class Detachment:
    """Which control edges go, so that no writer stands before a seam.

    Attributes:
        dropped: consumer to the sources that it no longer waits for.
        hung: those sources, which now belong behind the barrier, in the graph's order.
        moved: the writers concerned.
        refused: why it can't be done; empty where it can.
    """

    dropped: dict[str, set[str]] = field(default_factory=dict)
    hung: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    refused: str = ""


def detach(graph: Graph, closure: set[str], sources: Iterable[str]) -> Detachment:
    """The control edges to drop so that no writer is an ancestor of ``sources``, the nodes whose values are exchanged."""
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
    hung = {source for lost in dropped.values() for source in lost}
    return Detachment(dropped, tuple(name for name in graph.view.nodes if name in hung), tuple(writers))


def _pulled_along(
    graph: Graph, before: set[str], sources: set[str], writers: Iterable[str]
) -> tuple[set[str], dict[str, set[str]]]:
    """What depends on the writers and isn't computed with by the gradients, and the control edges that leave it.

    A control edge into something that ``sources`` take data from is dropped; everything else that waits for a writer goes along.
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
    graph: Graph, before: set[str], moved: set[str], dropped: dict[str, set[str]], writers: Iterable[str]
) -> str:
    """A read that had to come after one of the writers and would now come before it; ``""`` where there is none."""
    later = graph.view.descendants(dropped, within=before) - moved
    for writer in writers:
        variable = graph.variable_of(writer)
        if variable is None:
            continue
        for reader in _readers(graph, variable):
            if reader in later:
                return f"{reader} reads {variable} after {writer} has written it, and the gradients depend on both"
    return ""


def _readers(graph: Graph, variable: str) -> list[str]:
    readers: list[str] = []
    for use in graph.view.uses[variable]:
        readers.append(use.node)
        if graph.view.op(use.node) in ALIASES:
            readers.extend(further.node for further in graph.view.uses[use.node])
    return [name for name in readers if not graph.writes(name)]


def hang(
    editor: Editor, graph: Graph, target: str, number: int, seams: Iterable[str], detachment: Detachment, frames: dict[str, Frame]
) -> str:
    """Put the barrier into the editor's graph; its name.

    Args:
        graph: the graph as the editor had it before the seams went in, with the detached edges already gone.
        seams: names of the target's Identity nodes.
        frames: the loops around each node.
    """
    closure = graph.view.ancestors([target, *detachment.hung])
    first = editor.add("NoOp", f"barrier/{number}", controls=seams)
    early = graph.view.ancestors(detachment.hung)
    writers = [name for name in graph.view.nodes if name in closure and graph.writes(name)]
    late = first
    if detachment.hung:
        late = editor.add("NoOp", f"barrier/{number}/detached", controls=[first, *detachment.hung])
        editor.add_controls(target, [late])
    for writer in writers:
        for gate in _gates(graph, writer, frames):
            editor.add_controls(gate, [first if writer in early else late])
    return first


def _gates(graph: Graph, writer: str, frames: dict[str, Frame]) -> list[str]:
    """Where a control edge from outside holds a writer back: the writer itself, or its outermost loop's entries."""
    if not frames.get(writer):
        return [writer]
    outermost = frames[writer][:1]
    return [name for name, op in graph.view.ops.items() if op in ("Enter", "RefEnter") and frames.get(name) == outermost]
