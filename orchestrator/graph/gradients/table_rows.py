"""Which indices belong to a gradient's values, where those are rows of a table?

Rule: values are followed to where they meet indices, through operations that give a row for each
row; from there the indices are followed back to where they leave the gradient scope. Where the rows
of several gradients are put together (lookups, towers), their indices are put together in the same
order, and those of the same part belong to the values. What can't be paired so isn't cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.op_traits import input_index
from orchestrator.graph.graphdef.view import Edge, Use

ROWWISE = frozenset(
    {
        "Identity",
        "Mul",
        "RealDiv",
        "Div",
        "DivNoNan",
        "Neg",
        "Minimum",
        "Maximum",
        "Cast",
        "Add",
        "AddV2",
        "Sub",
        "Select",
        "SelectV2",
        "Switch",
        "Merge",
        "StopGradient",
        "CheckNumerics",
        "ClipByValue",
        "PreventGradient",
        "Reshape",
        "Where",
        "ConcatV2",
        "AddN",
    }
)
"""Operations that give a row for each row: through them values stay the values of their indices."""

_INDEX_STEPS = frozenset(
    {"Unique", "UniqueV2", "Identity", "Cast", "Reshape", "ConcatV2", "Switch", "Merge"}
)
"""What indices pass on their way from the gradient to the optimizer."""
_STEPS = 100
"""Longest way of indices."""


class Unpaired(Exception):
    """Why values and indices can't be told to belong together; the graph isn't cut then."""


@dataclass(frozen=True)
class Part:
    """Where values are put together with others: their place among ``count`` inputs."""

    slot: int
    count: int


@dataclass(frozen=True)
class LastUse:
    """An input at which values don't stay rows, and what they were put together with before."""

    use: Use
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Indices:
    """The indices of some values.

    Attributes:
        edge: where they are to be exchanged.
        uses: the inputs that want the group's.
        met: the input at which the values meet them.
    """

    edge: Edge
    uses: tuple[Use, ...]
    met: Use


def apart(graph: Graph, uses: Iterable[Use]) -> list[tuple[Use, ...]]:
    """Inputs that take one gradient, so that none takes it twice among what is put together: there
    it's rows of different indices (two lookups that are added up have one gradient).
    """
    found: list[list[Use]] = []
    for use in uses:
        joins = graph.view.op(use.node) == "ConcatV2"
        for group in found:
            if not joins or all(other.node != use.node for other in group):
                group.append(use)
                break
        else:
            found.append([use])
    return [tuple(group) for group in found]


def endings(graph: Graph, uses: Iterable[Use], beyond: set[str]) -> Iterator[LastUse]:
    """Where values end after all operations that keep their rows."""
    waiting = [LastUse(use) for use in uses]
    seen: set[str] = set()
    while waiting:
        at = waiting.pop(0)
        name = at.use.node
        if graph.view.op(name) not in ROWWISE:
            yield at
        elif name not in seen:
            seen.add(name)
            parts = at.parts
            if graph.view.op(name) == "ConcatV2":
                parts = (*parts, Part(at.use.slot, len(graph.view.data[name])))
            waiting.extend(
                LastUse(use, parts) for use in graph.view.uses[name] if use.node in beyond
            )


def indices_of(graph: Graph, found: Sequence[LastUse], beyond: set[str]) -> Indices | None:
    """The indices that values meet at some of their endings; None where they're no rows.

    Raises:
        Unpaired: they come together with others' rows and the indices don't, or they meet different
            indices.
    """
    met = [
        (ending, slot) for ending in found if (slot := indices_slot(graph, ending.use)) is not None
    ]
    if not met:
        return None
    origins = [_origin(graph, ending, slot, beyond) for ending, slot in met]
    edge = origins[0][0]
    other = next((at for at, _ in origins if at != edge), None)
    if other is not None:
        raise Unpaired(f"its rows belong to the indices {edge.tensor} and to {other.tensor}")
    uses = dict.fromkeys(use for _, use in origins)
    if graph.gradient_scope(edge.node) is not None:
        all_uses = graph.view.uses[edge.node]
        uses = dict.fromkeys(
            use for use in all_uses if use.port == edge.port and use.node in beyond
        )
        uses = uses or dict.fromkeys(use for _, use in origins)
    return Indices(edge, tuple(uses), met[0][0].use)


def indices_slot(graph: Graph, use: Use) -> int | None:
    """The input of the indices that belong to the values at ``use``, None where they're no rows."""
    op = graph.view.op(use.node)
    if op == "UnsortedSegmentSum":
        return 1 if use.slot == 0 else None
    definition = graph.definition(use.node)
    if definition is None:
        return None
    traits = graph.traits(use.node)
    if traits.sparse and use.slot == traits.gradient:
        return input_index(definition, "indices")
    if traits.scatter and use.slot == input_index(definition, "updates"):
        return input_index(definition, "indices")
    return None


def _origin(graph: Graph, ending: LastUse, slot: int, beyond: set[str]) -> tuple[Edge, Use]:
    """Follow indices back to where they leave the gradient scope, or to where the optimizer's own
    steps on them begin: what gradients are computed from too keeps the batch's own.
    """
    parts = list(ending.parts)
    use = Use(ending.use.node, slot, graph.view.data[ending.use.node][slot].port)
    edge = graph.view.data[ending.use.node][slot]
    for _ in range(_STEPS):
        data = graph.view.data.get(edge.node, ())
        op = graph.view.op(edge.node)
        if edge.node not in beyond or op not in _INDEX_STEPS or not data:
            break
        slot = 0
        if op == "ConcatV2":
            if not parts:
                break  # the values weren't put together here: all of these are theirs
            part = parts.pop()
            if part.count != len(data):
                raise Unpaired(
                    f"its rows are put together otherwise than their indices, {edge.node}"
                )
            slot = part.slot
        use = Use(edge.node, slot, data[slot].port)
        edge = data[slot]
    if parts:
        raise Unpaired(
            f"its rows are put together with others, and which of the indices {edge.tensor} are theirs can't be told"
        )
    return edge, use
