"""Of which loss is a tensor the gradient, and of which parts is the loss made?

Rule: ``tf.gradients`` begins with a tensor of ones in its scope, and names what it computes
``SCOPE/F_grad/…`` after the operation F whose gradient it is: the operations that take the ones
tell which F gave the loss. A loss that is a sum falls into its terms, so that each can be asked by
itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.graph.gradients.towers import LINEAR
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import COMPLEX, FLOATS
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.repetition.analysis import Repetition
from orchestrator.graph.repetition.values import Depends, Fixed, Linearity, Mixed, Rows, Unknown

_ONES = re.compile(r"(Fill|ones|ones_like|OnesLike|grad_ys)(_\d+)?$")
"""What ``tf.gradients`` calls the gradient that it begins with, in one release or another
(``_DefaultGradYs`` of ``python/ops/gradients_util.py``); an Identity where the caller gave it.
"""
_OF_ONE = "_grad/"
"""``_GradientsHelper`` there opens the scope ``F_grad`` for the gradient of the operation F."""
SUMS = frozenset({"Add", "AddV2", "AddN", "Sub", "Pack", "Concat", "ConcatV2", "Sum", "Mean"})
"""Operations of which a gradient reaches each part by itself, so that each is a term."""
HANDING = frozenset(
    {
        "Identity",
        "Neg",
        "Cast",
        "Reshape",
        "ExpandDims",
        "Squeeze",
        "StridedSlice",
        "CheckNumerics",
        "Snapshot",
    }
)
"""Operations that hand a loss on as it is, but for its sign, type or shape."""


@dataclass(frozen=True)
class Term:
    """A part of a loss.

    Attributes:
        degree: to which power of M what multiplies it grows.
    """

    edge: Edge
    degree: int = 0


@dataclass(frozen=True)
class GradientOrigin:
    """Where a gradient comes from.

    Attributes:
        losses: the outputs that it's the gradient of.
        weights: what the loss's gradient begins with where it isn't one: tensors that the caller
            gave.
        why: why no loss was found; empty where one was.
    """

    losses: tuple[Edge, ...] = ()
    weights: tuple[Edge, ...] = ()
    why: str = ""


class LossesBehind:
    """The losses of one graph's gradients; what follows from which ones is found once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._members: dict[str, set[str]] = {}
        self._ones: dict[str, str] = {}
        for name in graph.view.nodes:
            scope = graph.gradient_scope(name)
            if scope is not None:
                self._members.setdefault(scope, set()).add(name)
                if self._begins(name, scope):
                    self._ones[name] = scope
        self._after = {
            name: graph.view.descendants([name], control=False, within=self._members[scope])
            for name, scope in self._ones.items()
        }

    def roots(self, within: set[str]) -> tuple[Edge, ...]:
        """The losses whose gradients are begun among some nodes, in the graph's order."""
        begun = (name for name in self._ones if name in within)
        return tuple(dict.fromkeys(edge for name in begun for edge in self._named_by(name)))

    def of(self, gradient: Edge) -> GradientOrigin:
        """The losses of which ``gradient`` is one, or the average of several towers' ones."""
        leaving = self._leaving(gradient.node)
        ones = [name for name, after in self._after.items() if after & leaving]
        if not ones:
            return GradientOrigin(why="no gradient scope tells of which loss it's the gradient")
        losses: dict[Edge, None] = {}
        weights: dict[Edge, None] = {}
        for name in ones:
            found = self._named_by(name)
            if not found:
                return GradientOrigin(
                    why=f"the operations after {name} don't tell of which loss they compute the gradient"
                )
            losses.update(dict.fromkeys(found))
            if self._graph.view.op(name) == "Identity":
                weights[self._graph.view.data[name][0]] = None
        return GradientOrigin(tuple(losses), tuple(weights))

    def _begins(self, name: str, scope: str) -> bool:
        begins = _ONES.fullmatch(name[len(scope) + 1 :])
        return bool(begins) and any(
            _OF_ONE in use.node[len(scope) :] for use in self._graph.view.uses[name]
        )

    def _leaving(self, name: str) -> set[str]:
        """The last nodes inside of gradient scopes before a gradient: itself, or what towers'
        average is made of.
        """
        found: set[str] = set()
        waiting, seen = [name], set[str]()
        while waiting:
            node = waiting.pop()
            if self._graph.gradient_scope(node) is not None:
                found.add(node)
            elif node not in seen and (node == name or self._graph.view.op(node) in LINEAR):
                seen.add(node)
                waiting.extend(edge.node for edge in self._graph.view.data.get(node, ()))
        return found

    def _named_by(self, ones: str) -> tuple[Edge, ...]:
        named = (
            _forward(self._graph, use.node, self._ones[ones]) for use in self._graph.view.uses[ones]
        )
        return tuple(dict.fromkeys(Edge(name, 0) for name in named if name is not None))


def _forward(graph: Graph, name: str, scope: str) -> str | None:
    """The operation of which the node ``name`` computes the gradient."""
    if not name.startswith(f"{scope}/"):
        return None
    rest = name[len(scope) + 1 :]
    # From behind, since F's own name may hold the mark: a gradient of a gradient has it twice.
    # Below each scope around, since an import under a prefix puts that before F and before the
    # gradient's scope, but not before F's name within it
    end = rest.rfind(_OF_ONE)
    while end >= 0:
        for prefix in ("", *_prefixes(scope)):
            if f"{prefix}{rest[:end]}" in graph.view.nodes:
                return f"{prefix}{rest[:end]}"
        end = rest.rfind(_OF_ONE, 0, end)
    return None


def _prefixes(scope: str) -> Iterator[str]:
    parts = scope.split("/")
    return ("/".join(parts[:length]) + "/" for length in range(1, len(parts)))


def terms(repetition: Repetition, loss: Edge) -> list[Term]:
    """The parts that a loss is the sum of, as far as one of them is other than the whole."""
    view = repetition.graph.view
    found: list[Term] = []
    waiting, seen = [Term(loss)], set[Term]()
    while waiting:
        term = waiting.pop()
        if term in seen:
            continue
        seen.add(term)
        op, value = view.op(term.edge.node), repetition.of(term.edge)
        data = view.data.get(term.edge.node, ())
        # Of a plain sum or mean the parts are what the whole is
        whole = isinstance(value, Rows) or (
            isinstance(value, Fixed) and value.form == Linearity.LINEAR
        )
        parts = None if whole else _parts(repetition, op, data, term.degree)
        if parts is None:
            found.append(term)
        else:
            waiting.extend(parts)
    return found


def _parts(
    repetition: Repetition, op: str, data: tuple[Edge, ...], degree: int
) -> list[Term] | None:
    values = [repetition.of(edge) for edge in data]
    if op in SUMS and not any(isinstance(value, Rows) for value in values):
        floats = [edge for edge in data if repetition.graph.dtype(edge) in FLOATS | COMPLEX]
        return [Term(edge, degree) for edge in floats]
    if op in HANDING and not any(isinstance(value, Rows) for value in values[:1]):
        return [Term(data[0], degree)]
    if op in ("Mul", "RealDiv", "Div") and len(values) == 2:
        for slot in (0, 1) if op == "Mul" else (0,):
            factor = values[1 - slot]
            if (
                # The loss times a constant, or divided by the rows: its terms are so too
                isinstance(values[slot], Mixed | Unknown)
                and isinstance(factor, Fixed)
                and factor.depends < Depends.DATA
            ):
                return [
                    Term(data[slot], degree + (factor.degree if op == "Mul" else -factor.degree))
                ]
    return None


def gradients_through(graph: Graph, edge: Edge, scope: str) -> set[str]:
    """The nodes of a gradient scope that follow from the gradient of the operation that gives
    ``edge``.
    """
    prefixes = ("", *_prefixes(scope))
    names = {
        f"{scope}/{edge.node.removeprefix(prefix)}{_OF_ONE}"
        for prefix in prefixes
        if edge.node.startswith(prefix)
    }
    inside = {name for name in graph.view.nodes if graph.gradient_scope(name) == scope}
    starts = [name for name in inside if any(name.startswith(start) for start in names)]
    return graph.view.descendants(starts, control=False, within=inside)


def variables_before(graph: Graph, edge: Edge) -> frozenset[str]:
    """The variables that a gradient of ``edge`` reaches."""
    seen: set[str] = set()
    waiting = [edge.node]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if (
            name in seen
            or name not in graph.view.nodes
            or graph.view.ops[name] in ("StopGradient", "PreventGradient")
        ):
            continue
        seen.add(name)
        if graph.traits(name).variable:
            found.add(name)
            continue
        waiting.extend(
            source.node
            for source in graph.view.data[name]
            if graph.dtype(source) in FLOATS | COMPLEX | {"resource", "variant", ""}
        )
    return frozenset(found)
