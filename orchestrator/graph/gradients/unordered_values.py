"""Which values of a batch wait for a writer that they have nothing to do with?

Rule: what is computed from fed values and constants alone, by operations without state, is the same
before a writer and after it: TensorFlow made it wait only because the author built it under
``control_dependencies`` (the rows counted behind the train op, say). Such a value is let go of, so
that it can be exchanged before anything is written. Whatever takes it and isn't of that kind waits
in its place: a read of a variable, or another writer, keeps its order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.flow import Flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge


@dataclass(frozen=True)
class LetGo:
    """Control edges to take away and to put in.

    Attributes:
        dropped: consumer to the sources that it no longer waits for.
        added: those that wait in its place, in the graph's order.
    """

    dropped: dict[str, set[str]] = field(default_factory=dict)
    added: dict[str, list[str]] = field(default_factory=dict)

    def carry_out(self, editor: Editor) -> bool:
        """Change the editor's graph; whether there was anything to change."""
        for consumer, sources in self.dropped.items():
            editor.drop_controls(consumer, sources)
        for consumer, waits in self.added.items():
            editor.add_controls(consumer, waits)
        return bool(self.dropped)


def let_go(graph: Graph, flow: Flow, target: str, written: Iterable[Edge]) -> LetGo:
    """The control edges that keep values behind writers for nothing.

    Args:
        target: the train operation.
        written: the inputs of writers that differ between ranks.
    """
    closure = graph.view.ancestors([target])
    writers = [name for name in closure if graph.writes(name)]
    late = graph.view.descendants(writers, within=closure)
    above = graph.view.ancestors(
        (edge.node for edge in written if edge.port >= 0 and edge.node in late), control=False
    )
    free = _free(graph, flow, above)
    found = LetGo()
    waits: dict[str, list[str]] = {}
    for name in graph.view.order()[0]:
        if name not in free:
            continue
        behind = [source for source in graph.view.controls[name] if source in late]
        if behind:
            found.dropped[name] = set(behind)
        carried = [*behind]
        for source in (*behind, *(edge.node for edge in graph.view.data[name])):
            carried.extend(waits.get(source, ()))
        waits[name] = list(dict.fromkeys(carried))
    for name, carried in waits.items():
        for use in graph.view.uses[name] if carried else ():
            if use.node in closure and use.node not in free:
                waiting = found.added.setdefault(use.node, [])
                waiting.extend(source for source in carried if source not in waiting)
    return found


def _free(graph: Graph, flow: Flow, above: set[str]) -> set[str]:
    """Those of ``above`` that nothing but fed values and constants reaches."""
    free: set[str] = set()
    for name in graph.view.order()[0]:
        if name not in above or not flow.once(name) or graph.definition(name) is None:
            continue
        traits = graph.traits(name)
        stateless = not (traits.stateful or traits.writes or traits.variable or traits.source)
        if stateless and all(edge.node in free for edge in graph.view.data[name]):
            free.add(name)
    return free
