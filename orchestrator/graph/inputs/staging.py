"""What does a step take out of a staging area, and what does it put in for the next one?

Rule: a staging area hands batches on from one step to the next, so the first step waits for what
nobody has put. Where the batch that's put is an input alone, the step trains on it at once, in the
same order as one whose area was filled once before the first step; the put goes. What a step
computed from variables is late by a step on purpose: that can't be done at once, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.problem import Problem

_TAKES, _PUTS = "Unstage", "Stage"


@dataclass(frozen=True)
class _Area:
    """A staging area that a step takes from, and what puts into it."""

    takes: tuple[str, ...]
    puts: tuple[str, ...]


def without_staging(editor: Editor, graph: Graph, targets: Iterable[str]) -> list[Problem]:
    """Let what ``targets`` take out of staging areas be what's put there, in the editor's graph;
    what has to be said about it.
    """
    targets = tuple(targets)
    problems: list[Problem] = []
    for area in _areas(graph, graph.view.ancestors(targets)):
        # One area may fill another, so each is wired in the graph that the last one left
        graph = editor.graph(graph.ops)
        why = _why_not(graph, area)
        if why:
            problems.append(
                Problem(
                    "staging-area",
                    "error",
                    f"training takes {area.takes[0]} out of a staging area, and {why}",
                    "Write the .meta from a graph without this staging area",
                    (*area.takes, *area.puts),
                )
            )
            continue
        _wire_through(editor, graph, area, graph.view.ancestors(targets))
        problems.append(
            Problem(
                "staging-bypassed",
                "warning",
                f"the staging area between {area.puts[0]} and {area.takes[0]} is bypassed: each step trains on the batch that it's given, "
                "not on the one before",
                "Nothing; the batches come in the same order",
                (*area.takes, *area.puts),
            )
        )
    return problems


def _areas(graph: Graph, closure: set[str]) -> list[_Area]:
    by_name: dict[tuple[bytes, bytes], _Area] = {}
    for name, op in graph.view.ops.items():
        if op in (_TAKES, _PUTS):
            node = graph.view.nodes[name]
            # Stage and Unstage are of one area where they share a name
            # (``core/kernels/stage_op.cc``); without one each has an area of its own
            key = (attribute(node, "container").s, attribute(node, "shared_name").s)
            key = key if key[1] else (key[0], name.encode())
            area = by_name.get(key, _Area((), ()))
            takes = (name,) if op == _TAKES and name in closure else ()
            puts = (name,) if op == _PUTS else ()
            by_name[key] = _Area((*area.takes, *takes), (*area.puts, *puts))
    return [area for area in by_name.values() if area.takes]


def _why_not(graph: Graph, area: _Area) -> str:
    """Why the step can't take what's put at once; empty where it can."""
    if len(area.puts) != 1 or len(area.takes) != 1:
        return f"{len(area.puts)} operations put into it and {len(area.takes)} take out of it: which batch is whose can't be told"
    (put,), (take,) = area.puts, area.takes
    above = graph.view.ancestors([put], control=False)
    if take in above:
        return f"what {put} puts there follows from it"
    variable = next((name for name in above if graph.traits(name).variable), None)
    if variable is not None:
        return f"{put} puts there what the step before computed from {variable}: it's late by a step on purpose"
    return ""


def _wire_through(editor: Editor, graph: Graph, area: _Area, closure: set[str]) -> None:
    (put,), (take,) = area.puts, area.takes
    given = graph.view.data[put]
    for use in graph.view.uses[take]:
        editor.set_input(use.node, use.slot, given[use.port])
    # Who waited for the batch waits for what it's made of; who waited for the put, which is run no
    # more, needn't
    for waiting in graph.view.control_uses[take]:
        if given:
            editor.replace_control(waiting, take, given[0].node)
    for waiting in graph.view.control_uses[put]:
        if waiting in closure:
            editor.drop_controls(waiting, {put})
