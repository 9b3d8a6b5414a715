"""How does a graph update each variable that it trains: with which gradient, at which rate?

Rule: an optimizer's own operation tells by its OpDef; plain descent on rows by the product that it
scatters, and Adam on rows by the assignments as which TensorFlow writes it out. Whoever updates in
another way isn't guessed at: it's given back by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
        gradient: the dense gradient, or the values of rows; ``entries`` are where that comes in.
        indices: the rows; None for a dense gradient.
        rate: the learning rate; None where it can't be told.
        powers: variables that belong to the optimizer as a whole.
        moments: slots that other operations than ``node`` write.
        is_known: False where the operation is no optimizer's; then only ``node`` and ``variable``
            count.
    """

    node: str
    kind: str
    variable: str
    handle: Edge
    gradient: Edge
    entries: tuple[Use, ...]
    indices: Edge | None = None
    rate: Edge | None = None
    powers: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()
    is_known: bool = True


def read_updates(work: UnderEdit, target: str | None = None) -> list[Update]:
    """The updates that a step runs, or one of its targets, in the graph's order.

    What else a step assigns to a variable that has an update, such as its projection to a norm, is
    none; what is assigned to one that has no other is.
    """
    graph, closure = work.graph, work.closure(target)
    trainable = {name for name, one in work.variables.items() if one.trainable}
    certain = set(training_updates(graph, trainable))
    found = [
        (name in certain, _read(graph, name, variable))
        for name in graph.view.nodes
        if name in closure and graph.writes(name)
        for variable in graph.written_by(name)
        if variable in trainable
    ]
    updated = {one.variable for sure, one in found if sure or one.is_known}
    return [one for sure, one in found if sure or one.is_known or one.variable not in updated]


def _read(graph: Graph, name: str, variable: str) -> Update:
    data, kind = graph.view.data[name], graph.view.op(name)
    traits = graph.traits(name)
    if traits.update:
        return _optimizers_own(graph, name, variable)
    if traits.scatter and kind in ("ScatterSub", "ResourceScatterSub", "ResourceScatterAdd"):
        found = _scaled(graph, data[2], negated=kind == "ResourceScatterAdd")
        if found is not None:
            entry, gradient, rate = found
            return Update(name, kind, variable, data[0], gradient, (entry,), data[1], rate)
    if kind in ("AssignSub", "AssignSubVariableOp"):
        adam = _adam_on_rows(graph, name, variable)
        if adam is not None:
            return adam
    return Update(
        name, kind, variable, data[0], data[-1], (Use(name, len(data) - 1, 0),), is_known=False
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
        (Use(name, slot, data[slot].port),),
        None if rows is None else data[rows],
        None if rate is None else data[rate],
        tuple(_variables(graph, [data[at] for at in powers if at is not None])),
    )


def _variables(graph: Graph, edges: Iterable[Edge]) -> Iterator[str]:
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


def _adam_on_rows(graph: Graph, name: str, variable: str) -> Update | None:
    """``var -= rate * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon)``, as
    ``AdamOptimizer._apply_sparse_shared`` writes it; None where it's something else.
    """
    handle, value = graph.view.data[name][:2]
    divided = _inputs(graph, value, "RealDiv", "Div")
    product = _inputs(graph, divided[0], "Mul") if divided else ()
    below = _inputs(graph, divided[1], "Add", "AddV2") if divided else ()
    scaled = _inputs(graph, product[0], "RealDiv", "Div") if product else ()
    above = _inputs(graph, scaled[0], "Mul") if scaled else ()
    first = _inputs(graph, scaled[1], "Sub") if scaled else ()
    root = _inputs(graph, above[1], "Sqrt") if above else ()
    second = _inputs(graph, root[0], "Sub") if root else ()
    deviation = _inputs(graph, below[0], "Sqrt") if below else ()
    if not (first and second and deviation):
        return None
    moment, square = _scatter(graph, product[1]), _scatter(graph, deviation[0])
    if moment is None or square is None:
        return None
    _, indices, updates = graph.view.data[moment]
    added = _inputs(graph, updates, "Mul")
    moments = [graph.variable_of(each) for each in (moment, square)]
    if not added or None in moments:
        return None
    return Update(
        name,
        "ResourceAdam" if graph.view.op(name).endswith("VariableOp") else "Adam",
        variable,
        handle,
        added[0],
        tuple(_uses(graph, added[0], {updates.node, *_squares(graph, square)})),
        indices,
        above[0],
        tuple(_variables(graph, [first[1], second[1]])),
        tuple(each for each in moments if each is not None),
    )


def _inputs(graph: Graph, edge: Edge, *ops: str) -> tuple[Edge, ...]:
    """What goes into the operation behind an edge, where it's one of ``ops``."""
    edge = resolve_alias(graph.view, edge, frozenset({"Identity"}))
    return graph.view.data[edge.node] if graph.view.op(edge.node) in ops else ()


def _scatter(graph: Graph, edge: Edge) -> str | None:
    """The scatter of rows after which a moment is read."""
    if graph.view.op(edge.node) == "ScatterAdd":
        return edge.node
    waits = graph.view.controls[edge.node]
    return next((name for name in waits if graph.view.op(name) == "ResourceScatterAdd"), None)


def _squares(graph: Graph, scatter: str) -> set[str]:
    """The product of a gradient with itself, of which a moment gets its share."""
    share = _inputs(graph, graph.view.data[scatter][2], "Mul")
    return {share[0].node} if share else set()


def _uses(graph: Graph, edge: Edge, nodes: set[str]) -> Iterator[Use]:
    """Where these nodes take what an edge carries."""
    for use in graph.view.uses[edge.node]:
        if use.port == edge.port and use.node in nodes:
            yield use
