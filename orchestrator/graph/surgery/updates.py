"""How does a graph update each variable that it trains: with which gradient, at which rate?

Rule: an optimizer's own operation tells by its OpDef; plain descent on rows by the product that it
scatters. Whoever updates in another way (an optimizer written out in assignments) isn't guessed at:
it's given back by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.graph.gradients.training_writers import training_updates
from orchestrator.graph.graphdef import op_traits
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, Use, resolve_alias
from orchestrator.graph.surgery.edits import UnderEdit

RATES = ("lr", "alpha")
POWERS = ("beta1_power", "beta2_power")


@dataclass(frozen=True)
class Update:
    """What a step does to one trained variable.

    Attributes:
        node: the operation that writes it.
        kind: the operation's type.
        handle: what it takes as the variable.
        gradient: the dense gradient, or the values of rows; ``entry`` is where that comes in.
        indices: the rows; None for a dense gradient.
        rate: the learning rate; None where it can't be told.
        powers: variables that belong to the optimizer as a whole.
        is_known: False where the operation is no optimizer's; then only ``node`` and ``variable``
            count.
    """

    node: str
    kind: str
    variable: str
    handle: Edge
    gradient: Edge
    entry: Use
    indices: Edge | None = None
    rate: Edge | None = None
    powers: tuple[str, ...] = ()
    is_known: bool = True


def read_updates(work: UnderEdit, target: str | None = None) -> list[Update]:
    """The updates that a step runs, or one of its targets, in the graph's order."""
    graph, closure = work.graph, work.closure(target)
    trainable = {name for name, one in work.variables.items() if one.trainable}
    return [
        _read(graph, name, variable)
        for name in training_updates(graph, trainable)
        if name in closure
        for variable in graph.written_by(name)[:1]
    ]


def _read(graph: Graph, name: str, variable: str) -> Update:
    data, kind = graph.view.data[name], graph.view.op(name)
    traits = graph.traits(name)
    if traits.update:
        return _optimizers_own(graph, name, variable)
    if traits.scatter and kind in ("ScatterSub", "ResourceScatterSub", "ResourceScatterAdd"):
        found = _scaled(graph, data[2], negated=kind == "ResourceScatterAdd")
        if found is not None:
            entry, gradient, rate = found
            return Update(name, kind, variable, data[0], gradient, entry, data[1], rate)
    return Update(
        name, kind, variable, data[0], data[-1], Use(name, len(data) - 1, 0), is_known=False
    )


def _optimizers_own(graph: Graph, name: str, variable: str) -> Update:
    definition = graph.definition(name)
    assert definition is not None, "an optimizer's operation is known by its OpDef"
    data = graph.view.data[name]
    slot = op_traits.gradient_input(definition)
    assert slot is not None, "an optimizer's operation has a gradient"
    rates = [op_traits.input_index(definition, rate) for rate in RATES]
    rate = next((at for at in rates if at is not None), None)
    rows = op_traits.input_index(definition, "indices")
    powers = [op_traits.input_index(definition, power) for power in POWERS]
    return Update(
        name,
        graph.view.op(name),
        variable,
        data[0],
        data[slot],
        Use(name, slot, data[slot].port),
        None if rows is None else data[rows],
        None if rate is None else data[rate],
        tuple(_variables(graph, (data[at] for at in powers if at is not None))),
    )


def _variables(graph: Graph, edges: Iterator[Edge]) -> Iterator[str]:
    for edge in edges:
        edge = resolve_alias(graph.view, edge, frozenset({"Cast"}))
        variable = graph.variable_of(edge.node)
        if variable is not None:
            yield variable


def _scaled(graph: Graph, edge: Edge, *, negated: bool) -> tuple[Use, Edge, Edge] | None:
    """Where a gradient comes into ``gradient * rate``, both, or ``-gradient * rate``."""
    edge = resolve_alias(graph.view, edge, frozenset({"Identity"}))
    if graph.view.op(edge.node) != "Mul":
        return None
    gradient, rate = graph.view.data[edge.node]
    entry = Use(edge.node, 0, gradient.port)
    if not negated:
        return entry, gradient, rate
    if graph.view.op(gradient.node) != "Neg":
        return None
    inner = graph.view.data[gradient.node][0]
    return Use(gradient.node, 0, inner.port), inner, rate
