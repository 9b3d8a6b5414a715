"""Which operations of a graph apply gradients to variables?

Rule: the optimizers' own updates, wherever they stand, function bodies included; and scatters and
assignments to trainable variables that gradients flow into. What only a saver runs doesn't count,
nor what only sets a variable from outside, unless nothing else is there.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.graph.graphdef.nodes import ALIASES, Graph, OpTraits
from orchestrator.graph.graphdef.view import parse_tensor, resolve_alias
from orchestrator.graph.inputs.ports import PLACEHOLDERS

LINEAR_ASSIGNMENTS = frozenset(
    {"AssignSub", "AssignAdd", "AssignSubVariableOp", "AssignAddVariableOp"}
)
ASSIGNMENTS = frozenset({"Assign", "AssignVariableOp"}) | LINEAR_ASSIGNMENTS


def training_updates(graph: Graph, trainable: set[str]) -> list[str]:
    """Writers that apply gradients: optimizer updates, and scatters and assignments to trainable
    variables fed by gradients.

    Without any gradient scope, additive assignments to trainable variables count, and those of what
    is computed from the variable itself and from data: a hand-written backward pass. Those whose
    values are fed by hand, and come of no variable, count only where nothing else trains.
    """
    infrastructure = saver_nodes(graph)
    scoped = [name for name in graph.view.nodes if graph.gradient_scope(name) is not None]
    fed = _fed(graph, scoped, trainable) if scoped else None
    found: list[str] = []
    by_hand: list[str] = []
    for name in graph.view.ops:
        traits = graph.traits(name)
        if name in infrastructure or not graph.writes(name):
            continue
        inside = graph.updates_inside(name) and not trainable.isdisjoint(graph.written_by(name))
        if traits.update or inside:
            found.append(name)
        elif graph.variable_of(name) in trainable and _assigns_gradient(graph, name, traits, fed):
            (by_hand if fed is None and _is_hand_fed(graph, name) else found).append(name)
    return found or by_hand


def _fed(graph: Graph, scoped: Iterable[str], trainable: set[str]) -> set[str]:
    """What gradients flow into, also by way of an optimizer's moment: a resource variable is read
    by an operation that only waits for the writer. What is read of a trained variable is none.
    """
    fed = graph.view.descendants(scoped, control=False)
    writers = [name for name in fed if graph.writes(name)]
    while writers:
        name = writers.pop()
        moments = set(graph.written_by(name)) - trainable
        reads = [
            reader
            for reader in graph.view.control_uses[name]
            if graph.view.op(reader) == "ReadVariableOp" and graph.variable_of(reader) in moments
        ]
        new = graph.view.descendants(reads, control=False) - fed
        fed |= new
        writers += [each for each in new if graph.writes(each)]
    return fed


def _is_hand_fed(graph: Graph, name: str) -> bool:
    """Whether what a writer adds comes out of placeholders alone: no loss of this graph is behind
    it.
    """
    above = graph.view.ancestors((edge.node for edge in graph.view.data[name][1:]), control=False)
    return any(graph.view.op(each) in PLACEHOLDERS for each in above) and not any(
        graph.traits(each).variable for each in above
    )


def _assigns_gradient(graph: Graph, name: str, traits: OpTraits, fed: set[str] | None) -> bool:
    op = graph.view.op(name)
    if fed is None:
        return (
            traits.scatter
            or op in LINEAR_ASSIGNMENTS
            or (op in ASSIGNMENTS and _moves(graph, name))
        )
    return name in fed and (traits.scatter or op in ASSIGNMENTS)


def _moves(graph: Graph, name: str) -> bool:
    """Whether an assignment's value follows from what the variable held and from data: an
    initialiser's follows from neither, a copy of another network's not from data.
    """
    above = graph.view.ancestors((edge.node for edge in graph.view.data[name][1:]), control=False)
    data = any(
        graph.view.op(each) in PLACEHOLDERS or graph.draws_from_outside(each) for each in above
    )
    return data and graph.variable_of(name) in above


def saver_nodes(graph: Graph) -> set[str]:
    """All that the saver's save and restore operations need."""
    definition = graph.meta.saver_def
    ends = {
        parse_tensor(definition.restore_op_name).node,
        parse_tensor(definition.save_tensor_name).node,
    }
    closure = graph.view.ancestors(name for name in ends if name in graph.view)
    return {name for name in closure if not graph.traits(name).variable}


def accumulating_ops(graph: Graph, target: str) -> list[str]:
    """Operations that add gradients to variables which ``target`` reads, where ``target`` computes
    no gradient itself.
    """
    scoped = {name for name in graph.view.nodes if graph.gradient_scope(name) is not None}
    closure = graph.view.ancestors([target])
    if not scoped or not closure.isdisjoint(scoped):
        return []
    fed = graph.view.descendants(scoped, control=False)
    outside = [
        name
        for name in graph.view.nodes
        if name in fed and name not in closure and graph.writes(name)
    ]
    adding = [name for name in outside if _kept_in(graph, name) in closure]
    later = graph.view.descendants(adding)
    return [
        name for name in graph.view.nodes if name in later and not feeds_into(graph, name, later)
    ]


def _kept_in(graph: Graph, name: str) -> str | None:
    """The variable or accumulator that a writer adds to."""
    variable = graph.variable_of(name)
    if variable is not None or "Accumulator" not in graph.view.op(name):
        return variable
    return resolve_alias(graph.view, graph.view.data[name][0], ALIASES).node


def feeds_into(graph: Graph, name: str, downstream: set[str]) -> bool:
    """Whether something among ``downstream`` consumes the node or waits for it."""
    if any(use.node in downstream for use in graph.view.uses[name]):
        return True
    return any(target in downstream for target in graph.view.control_uses[name])
