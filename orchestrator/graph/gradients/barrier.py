"""How does a step stay atomic when an operation, or the exchange in its middle, fails?

Rule: one barrier stands between all that computes and all that writes. It waits for every seam, and
for whatever else a step runs before its writers (a check for NaN that no writer waits for, say), so
that a failure anywhere leaves the variables as they were; on one worker too, where there are no
seams. What was detached from before the seams (``detaching``) is hung between the barrier and the
other writers, so that the order among writers stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.graph.gradients.detaching import Detachment
from orchestrator.graph.gradients.leading_out import awaited
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.flow import Flow, read_flow
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.view import Use


def insert_barrier(
    editor: Editor,
    graph: Graph,
    target: str,
    number: int,
    seams: Iterable[str],
    detachments: Sequence[Detachment],
    flow: Flow,
    rewired: set[Use],
    above: set[str],
) -> str:
    """Put the barrier into the editor's graph; its name.

    Args:
        graph: the graph before its seams went in, with the detached edges gone.
        seams: names of the target's Identity nodes.
        detachments: what belongs behind the barrier, one after the other.
        flow: the loops and conditionals around each node.
        rewired: the inputs that take a seam by now.
        above: what runs before the seams.
    """
    hung = [name for detachment in detachments for name in detachment.hung]
    closure = graph.view.ancestors([target, *hung])
    writers = [name for name in graph.view.nodes if name in closure and graph.writes(name)]
    late_nodes = graph.view.descendants(writers, within=closure)
    gates = {writer: _gates(graph, writer, flow) for writer in writers}
    waited_for = [
        *seams,
        *_values(graph, gates, late_nodes, flow, rewired),
        *_ends(graph, closure, gates, above, flow, rewired),
    ]
    first = editor.add("NoOp", f"barrier/{number}", controls=list(dict.fromkeys(waited_for)))
    # Detached writers go first, as they did before; the others wait for them at a second barrier
    early = graph.view.ancestors(hung)
    held_by = _hung(editor, graph, first, detachments)
    if hung:
        # Nothing else may need them, and they belong to the step
        editor.add_controls(target, [held_by[-1][1]])
    for writer in writers:
        late = next((late for before, late in held_by if writer in before), held_by[-1][1])
        for gate in gates[writer]:
            editor.add_controls(gate, [late])
    for earlier, later in _copies_before_changes(graph, writers, late_nodes, early):
        editor.add_controls(later, [earlier])
    return first


def _hung(
    editor: Editor, graph: Graph, barrier: str, detachments: Sequence[Detachment]
) -> list[tuple[set[str], str]]:
    """What the writers among these nodes wait for, by turns; the last is for all others."""
    held_by: list[tuple[set[str], str]] = []
    late = barrier
    for detachment in (each for each in detachments if each.hung):
        held_by.append((graph.view.ancestors(detachment.hung), late))
        waited = [
            awaited(editor, f"{late}/hung/{at}", name, detachment.branches.get(name, ()))
            for at, name in enumerate(detachment.hung)
        ]
        late = editor.add("NoOp", f"{late}/detached", controls=[late, *waited])
    return [*held_by, (set(), late)]


def _values(
    graph: Graph, gates: dict[str, list[str]], late: set[str], flow: Flow, rewired: set[Use]
) -> list[str]:
    """What writers write, as far as no other writer has a part in it: it's computed before the
    barrier.

    So a read that the graph doesn't order against a write comes before it on every rank, and an
    operation that fails between the gradients and the variables (a check for NaN, say) fails before
    anything is written.
    """
    found: dict[str, None] = {}
    for names in gates.values():
        for name in names:
            for slot, edge in enumerate(graph.view.data[name]):
                first_hand = edge.node not in late and Use(name, slot, edge.port) not in rewired
                # What takes no input (a constant, a placeholder) can neither fail nor come late
                if first_hand and flow.once(edge.node) and graph.view.data[edge.node]:
                    found[edge.node] = None
    return list(found)


def _ends(
    graph: Graph,
    closure: set[str],
    gates: dict[str, list[str]],
    above: set[str],
    flow: Flow,
    rewired: set[Use],
) -> list[str]:
    """The last operations of what no writer stands before: who has waited for them has waited for
    all of it.

    What runs before the seams is left out, since the exchange has waited for it; so is what feeds
    the seams' places only.
    """
    held_back = {name for names in gates.values() for name in names}
    early = closure - held_back - graph.view.descendants(held_back, within=closure) - above
    found: list[str] = []
    for name in graph.view.nodes:
        if name not in early or not flow.once(name):
            continue
        inputs, waiting = graph.view.uses[name], graph.view.control_uses[name]
        if any(use.node in early for use in inputs) or any(node in early for node in waiting):
            continue
        # Constants and placeholders can't fail. What ends in rewired inputs alone isn't needed any
        # more, and waiting for it would compute in vain what the seam now brings
        has_inputs = graph.view.data[name] or graph.view.controls[name]
        only_rewired = inputs and not waiting and all(use in rewired for use in inputs)
        if has_inputs and not only_rewired:
            found.append(name)
    return found


def guard(editor: Editor, graph: Graph, target: str, number: int) -> str:
    """Put a barrier without seams into the editor's graph, for a worker that exchanges nothing; its
    name, empty where no writer has anything to wait for.
    """
    closure = graph.view.ancestors([target])
    if not any(graph.writes(name) for name in closure):
        return ""
    return insert_barrier(
        editor, graph, target, number, (), (), read_flow(graph.view), set(), set()
    )


def _copies_before_changes(
    graph: Graph, writers: list[str], late: set[str], early: set[str]
) -> list[tuple[str, str]]:
    """Pairs of writers of which the first copies the memory of a variable that the second changes,
    in no order so far.

    A reference's Identity is no copy: its consumer sees what the memory holds when it runs. (A
    resource variable's ReadVariableOp is one; so those don't concern us.) TensorFlow alone leaves
    such a pair to chance; here the copy always gets the value of before the step, on every rank.
    """
    by_variable: dict[str, list[str]] = {}
    for writer in writers:
        variable = graph.variable_of(writer)
        if variable is not None and graph.view.op(variable) != "VarHandleOp":
            by_variable.setdefault(variable, []).append(writer)
    readers: dict[str, list[str]] = {}
    for writer in writers:
        for edge in graph.view.data[writer][1:]:
            variable = graph.variable_of(edge.node) if graph.view.op(edge.node) in ALIASES else None
            if variable in by_variable and writer not in by_variable[variable]:
                readers.setdefault(variable, []).append(writer)
    pairs: list[tuple[str, str]] = []
    for variable, copying in readers.items():
        for changing in by_variable[variable]:
            above = graph.view.ancestors([changing], stop=lambda name: name not in late)
            below = graph.view.descendants([changing], within=late)
            order = [
                name
                for name in copying
                if name not in above
                and name not in below
                and (changing in early) <= (name in early)
            ]
            pairs.extend((name, changing) for name in order)
    return pairs


def _gates(graph: Graph, writer: str, flow: Flow) -> list[str]:
    """Where a control edge from outside holds a writer back: the writer itself, or its outermost
    loop's entries.

    TensorFlow refuses an edge from outside into a loop's body ("has inputs from different frames",
    ``core/graph/control_flow.cc``); only Enter may take one.
    """
    if not flow.frames.get(writer):
        return [writer]
    outermost = flow.frames[writer][:1]
    return [
        name
        for name, op in graph.view.ops.items()
        if op in ("Enter", "RefEnter") and flow.frames.get(name) == outermost
    ]
