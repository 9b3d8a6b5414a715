"""How does a step stay atomic when an operation, or the exchange in its middle, fails?

Rule: one barrier stands between all that computes and all that writes. It waits for every seam, and
for whatever else a step runs before its writers (a check for NaN that no writer waits for, say), so
that a failure anywhere leaves the variables as they were; on one worker too, where there are no
seams.

Some writers stood before the gradients, held there by control edges alone (batch norm's averages).
They are detached, and hung between the barrier and the other writers, so that the order among
writers stays. A writer that the gradients take data from can't be moved, and neither can one whose
variable the gradients read afterwards: then the graph runs on one worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.graph.gradients.leading_out import awaited
from orchestrator.graph.graphdef.branches import Branch, Branches
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.flow import Flow, read_flow
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.view import Edge, Use


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


def insert_barrier(
    editor: Editor,
    graph: Graph,
    target: str,
    number: int,
    seams: Iterable[str],
    detachment: Detachment,
    flow: Flow,
    rewired: set[Use],
    above: set[str],
) -> str:
    """Put the barrier into the editor's graph; its name.

    Args:
        graph: the graph before its seams went in, with the detached edges gone.
        seams: names of the target's Identity nodes.
        flow: the loops and conditionals around each node.
        rewired: the inputs that take a seam by now.
        above: what runs before the seams.
    """
    closure = graph.view.ancestors([target, *detachment.hung])
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
    early = graph.view.ancestors(detachment.hung)
    late = first
    if detachment.hung:
        waited = [
            awaited(editor, f"barrier/{number}/hung/{at}", name, detachment.branches.get(name, ()))
            for at, name in enumerate(detachment.hung)
        ]
        late = editor.add("NoOp", f"barrier/{number}/detached", controls=[first, *waited])
        editor.add_controls(
            target, [late]
        )  # nothing else may need them, and they belong to the step
    for writer in writers:
        for gate in gates[writer]:
            editor.add_controls(gate, [first if writer in early else late])
    for earlier, later in _copies_before_changes(graph, writers, late_nodes, early):
        editor.add_controls(later, [earlier])
    return first


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
        editor, graph, target, number, (), Detachment(), read_flow(graph.view), set(), set()
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
