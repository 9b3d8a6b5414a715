"""How does each tensor of a graph change if the batch were repeated M times?

Rule: one walk in the graph's order over what follows from the inputs and leads to a loss; all else
doesn't change. Values that go round in a loop are walked again until they stay. An operation that
no rule knows gives Unknown, unless nothing that it's given changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import FLOATS, INTEGERS
from orchestrator.graph.graphdef.view import MERGES, NEXT_ITERATIONS, Edge, parse_tensor
from orchestrator.graph.repetition import (
    arithmetic,
    choices,
    elementwise,
    layers,
    look_ups,
    pieces,
    reductions,
    shapes,
    sizes,
)
from orchestrator.graph.repetition.arithmetic import Rule
from orchestrator.graph.repetition.nodes import Node, constant_numbers
from orchestrator.graph.repetition.values import COUNT, PLAIN, Dims, Fixed, Rows, Unknown, Value
from orchestrator.graph.worker_graph import InputPort

ROUNDS = 5
"""Walks until a loop's values stay; each can change a value's rows, degree and form once."""
COUNTS_ROWS = re.compile(
    r"(batch_?size|batch_?len|num_?(rows|examples|samples)|n_?(rows|examples|samples)|batchsz)(_\d+)?$",
    re.IGNORECASE,
)
"""Names that people give to a fed scalar that is the number of rows."""
SETTING = re.compile(
    r"(keep_?prob|dropout|drop_?rate|learning_?rate|training|momentum|^lr|^rate)", re.IGNORECASE
)
"""Names that people give to a fed scalar of which they didn't tell the shape and that isn't a
batch.
"""
MAY_BE_ZERO = frozenset({"Select", "SelectV2", "Merge", "Add", "AddV2", "AddN", "Sub"})
"""Operations to which a constant of zeros makes a difference: it fits to values of any degree, where
another constant would be mixed with them.
"""
RULES: Mapping[str, Rule] = {
    **layers.RULES,
    **look_ups.RULES,
    **pieces.RULES,
    **shapes.RULES,
    **sizes.RULES,
    **choices.RULES,
    **reductions.RULES,
    **elementwise.RULES,
    **arithmetic.RULES,
}


@dataclass(frozen=True)
class Repetition:
    """The answers for one graph.

    Attributes:
        static: no input has a free dimension; then sizes among the graph's constants may stand for
            the number of rows.
        shapeless: nodes of inputs of unknown shape, taken for rows, that may be single numbers.
    """

    graph: Graph
    values: Mapping[str, Value | tuple[Value, ...]]
    static: bool
    shapeless: frozenset[str] = frozenset()

    def of(self, edge: Edge) -> Value:
        """How a tensor changes."""
        return _port(self.values.get(edge.node, PLAIN), edge)


def repeated(
    graph: Graph, ports: Iterable[InputPort], constants: Iterable[str], wanted: Iterable[str]
) -> Repetition:
    """Walk from the inputs to the ``wanted`` nodes.

    Args:
        ports: what is fed.
        constants: names of fed tensors that hold the same value for the whole run.
    """
    ports, constants = tuple(ports), frozenset(constants)
    static = not any(port.shape is None or None in port.shape for port in ports)
    values: dict[str, Value | tuple[Value, ...]] = {}
    for port in ports:
        value = _fed(port, constants, static=static)
        if value != PLAIN:
            values[parse_tensor(port.tensor).node] = value
    between = graph.view.ancestors(wanted, control=False) & graph.view.descendants(
        values, control=False
    )
    walk = [name for name in graph.view.order()[0] if name in between and name not in values]
    for _ in range(ROUNDS):
        if not _walked(graph, walk, values, static=static):
            break
    else:
        for name in walk:
            if graph.view.ops[name] in MERGES and _loops(graph, name):
                values[name] = Unknown(name, "what goes round in a loop isn't settled")
        _walked(graph, [name for name in walk if not _loops(graph, name)], values, static=static)
    shapeless = frozenset(
        node
        for port in ports
        if port.shape is None
        and isinstance(values.get(node := parse_tensor(port.tensor).node), Rows)
    )
    return Repetition(graph, values, static, shapeless)


def _walked(
    graph: Graph, walk: Iterable[str], values: dict[str, Value | tuple[Value, ...]], *, static: bool
) -> bool:
    """One walk; whether a loop's values have to be walked again."""
    turning: dict[str, object] = {}
    for name in walk:
        if graph.view.ops[name] in NEXT_ITERATIONS:
            turning[name] = values.get(name)
        values[name] = _answer(graph, name, values, static=static)
    return any(values[name] != before for name, before in turning.items())


def _answer(
    graph: Graph, name: str, values: Mapping[str, Value | tuple[Value, ...]], *, static: bool
) -> Value | tuple[Value, ...]:
    op = graph.view.ops[name]
    # In the first walk nothing has come round yet: a loop's value is what it began with
    edges = [
        edge
        for edge in graph.view.data[name]
        if op not in MERGES
        or graph.view.op(edge.node) not in NEXT_ITERATIONS
        or edge.node in values
    ]
    given = tuple(_given(graph, op, edge, values) for edge in edges)
    if all(value == PLAIN for value in given):
        return PLAIN
    rule = RULES.get(op)
    node = Node(graph, name, given, static)
    if rule is not None:
        return rule(node)
    stuck = next((value for value in given if isinstance(value, Unknown)), None)
    if stuck is not None:
        return stuck
    # Between sizes and whole numbers no gradient passes, so an operation there that no rule knows
    # doesn't end the trail; nor does a TensorArray's handle, whose flow has rules of its own
    harmless = all(isinstance(value, Fixed | Dims) for value in given) and not node.differentiable()
    return PLAIN if harmless or op.startswith("TensorArray") else node.unknown()


def _given(
    graph: Graph, op: str, edge: Edge, values: Mapping[str, Value | tuple[Value, ...]]
) -> Value:
    found = values.get(edge.node)
    if found is not None:
        return _port(found, edge)
    if op in MAY_BE_ZERO and graph.view.op(edge.node) == "Const":
        numbers = constant_numbers(graph, edge)
        if numbers is not None and numbers.size and not numbers.any():
            return replace(PLAIN, zero=True)
    return PLAIN


def _port(value: Value | tuple[Value, ...], edge: Edge) -> Value:
    if not isinstance(value, tuple):
        return value
    return (
        value[edge.port]
        if edge.port < len(value)
        else Unknown(edge.node, "it has more outputs than are known")
    )


def _loops(graph: Graph, name: str) -> bool:
    return any(graph.view.op(edge.node) in NEXT_ITERATIONS for edge in graph.view.data[name])


def _fed(port: InputPort, constants: frozenset[str], *, static: bool) -> Value:
    """An input: rows along its first free axis; a scalar may be a setting, or the number of rows."""
    name = parse_tensor(port.name).node.rpartition("/")[2]
    # A scalar is no batch. A name may say that it counts rows; else one that is fed anew for each
    # step may be anything, and is remembered as a dial
    if port.shape == () or (port.shape is None and SETTING.search(name)):
        if port.dtype not in INTEGERS | FLOATS:
            return PLAIN
        if COUNTS_ROWS.search(name):
            return COUNT
        return (
            PLAIN if port.name in constants or port.tensor in constants else Fixed(dial=port.name)
        )
    if (
        port.dtype == "int64"
        and re.search(r"shape(_\d+)?$", parse_tensor(port.name).node)
        and (port.shape is None or len(port.shape) == 1)
    ):
        rank = None if port.shape is None else port.shape[0]
        return Dims(("rows", *(None,) * ((rank or 2) - 1)))  # of a sparse tensor
    if port.name in constants or port.tensor in constants:
        return PLAIN
    # A switch such as ``is_training``, of which nobody told the shape
    if port.dtype == "bool" and port.shape is None:
        return PLAIN
    if port.shape is None:
        return Rows(frozenset({0}))
    # The first free axis, as TensorFlow's own layers have it. Where every size of every input is a
    # constant, one of them must be the batch's, and the first is the likeliest
    free = [axis for axis, size in enumerate(port.shape) if size is None]
    if free:
        return Rows(frozenset({free[0]}))
    return Rows(frozenset({0})) if static else PLAIN
