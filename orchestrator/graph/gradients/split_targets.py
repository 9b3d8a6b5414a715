"""How do several train ops of one graph get a barrier each?

Rule: a writer that two train ops share (the step's count, batch norm's averages) would have to wait
for both barriers, and so pull the other op's gradients into the run. Each further train op gets
copies of what it shares with those before it, from the writers on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orchestrator.graph.graphdef.edit import OWN, Editor
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.worker_graph import TrainTarget


def separate_targets(
    editor: Editor, ops: OpSet, targets: Iterable[TrainTarget]
) -> tuple[TrainTarget, ...]:
    """The targets, none of which shares a writer with another, in the editor's graph."""
    done: list[TrainTarget] = []
    for number, target in enumerate(targets):
        done.append(_apart(editor, editor.graph(ops), number, target, done) if done else target)
    return tuple(done)


def _apart(
    editor: Editor, graph: Graph, number: int, target: TrainTarget, before: list[TrainTarget]
) -> TrainTarget:
    closure = graph.view.ancestors([target.op])
    taken = graph.view.ancestors(earlier.op for earlier in before)
    # From the writers on: what stands before them may be shared, since it only computes
    writing = graph.view.descendants(graph.writers(closure), within=closure)
    shared = writing & taken
    copies = {
        name: editor.clone(name, f"{OWN}target/{number}/{name}")
        for name in graph.view.nodes
        if name in shared
    }
    for name in sorted(writing):
        _rewire(editor, graph, name, copies.get(name, name), copies)
    return replace(target, op=copies.get(target.op, target.op))


def _rewire(editor: Editor, graph: Graph, original: str, name: str, copies: dict[str, str]) -> None:
    """Let ``name`` (``original`` or its copy) take its inputs from copies where there are some."""
    for slot, edge in enumerate(graph.view.data[original]):
        if edge.node in copies:
            editor.set_input(name, slot, Edge(copies[edge.node], edge.port))
    for source in graph.view.controls[original]:
        if source in copies:
            editor.replace_control(name, source, copies[source])
