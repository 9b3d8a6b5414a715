"""Which variables does a trained model need, and which did only its training?

Rule: asked of the graph, never of names. Weights are what is trained. Whatever the gradients'
computation or the end of a computation reads belongs to the model too. Of the rest, what flows into
the writing of a weight is the optimizer's; what is computed from data or weights is a statistic
(moving averages, which an inference graph reads and a training graph may not); counters and the
like stay behind. In doubt a variable is kept: one too many does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from orchestrator.graph.gradients.training_writers import saver_nodes
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.inputs.ports import PLACEHOLDERS
from orchestrator.graph.worker_graph import Variable

Role = Literal["weight", "model", "statistic", "unused", "optimizer", "counter", "local"]
KEPT: frozenset[Role] = frozenset({"weight", "model", "statistic", "unused"})
WHY: dict[Role, str] = {
    "weight": "it is trained",
    "model": "the model computes with it",
    "statistic": "it is computed from data or weights, as moving averages are",
    "unused": "nothing reads or writes it",
    "optimizer": "only the optimizer reads it",
    "counter": "only training counts with it",
    "local": "it is initialised anew by each session",
}
_SAVES = frozenset({"SaveV2", "SaveSlices", "Save"})
_LOOKS = frozenset(
    {"IsVariableInitialized", "VarIsInitializedOp", "Assert", "Print", "PrintV2", "CheckNumerics"}
)
"""Operations that look at a value and compute nothing from it."""
_PASSING = ALIASES | {"ReadVariableOp"}


@dataclass(frozen=True)
class _Known:
    """What is asked of the graph once."""

    graph: Graph
    trainable: frozenset[str]
    before_gradients: frozenset[str]
    infrastructure: frozenset[str]
    initializers: frozenset[str]


def variable_roles(
    graph: Graph, variables: Iterable[Variable], step: str | None
) -> dict[str, Role]:
    """Variable node to its role.

    Args:
        variables: all of the graph's.
        step: the variable that counts the steps.
    """
    every = list(variables)
    scoped = [name for name in graph.view.nodes if graph.gradient_scope(name) is not None]
    known = _Known(
        graph,
        frozenset(variable.name for variable in every if variable.trainable),
        frozenset(graph.view.ancestors(scoped, control=False)) - frozenset(scoped),
        frozenset(saver_nodes(graph)),
        frozenset(variable.initializer for variable in every if variable.initializer),
    )
    writers = _writers(known)
    return {
        variable.name: _role(known, variable, writers.get(variable.name, []), step)
        for variable in every
    }


def _role(known: _Known, variable: Variable, writers: list[str], step: str | None) -> Role:
    if variable.trainable:
        return "weight"
    if variable.name in known.before_gradients:
        return "model"
    if variable.local:
        return "local"
    if variable.name == step:
        return "counter"
    reach = known.graph.view.descendants(
        [variable.name],
        control=False,
        # a writer hands on what it has written: the variable itself, where it's this one
        stop=lambda name: _ends(known, name) and _written(known, name) != (variable.name,),
    ) - {variable.name}
    if any(_is_result(known, name, variable.name) for name in reach):
        return "model"
    written = {target for name in reach for target in _targets(known, name)}
    if written & known.trainable:
        return "optimizer"
    if _comes_of_data(known, writers):
        return "statistic"
    return "counter" if writers else "unused"


def _ends(known: _Known, name: str) -> bool:
    """Whether what a node gives isn't followed: it writes, saves, or looks only."""
    op = known.graph.view.op(name)
    return known.graph.writes(name) or op in _SAVES or op in _LOOKS or _is_summary(op)


def _written(known: _Known, name: str) -> tuple[str, ...]:
    return known.graph.written_by(name) if known.graph.writes(name) else ()


def _is_summary(op: str) -> bool:
    return op.endswith(("Summary", "SummaryV2"))


def _is_result(known: _Known, name: str, variable: str) -> bool:
    """Whether a node is where a computation ends: nothing but summaries and savers takes it."""
    graph = known.graph
    if _ends(known, name) or name in known.infrastructure:
        return False
    if graph.view.op(name) in _PASSING and graph.variable_of(name) == variable:
        return False  # it only hands the variable on
    takers = [use.node for use in graph.view.uses[name]]
    return all(
        taker in known.infrastructure
        or graph.view.op(taker) in _LOOKS | _SAVES
        or _is_summary(graph.view.op(taker))
        for taker in takers
    )


def _targets(known: _Known, name: str) -> Iterable[str]:
    if name in known.infrastructure or name in known.initializers:
        return ()
    return _written(known, name)


def _writers(known: _Known) -> dict[str, list[str]]:
    """Variable to what writes it while training."""
    found: dict[str, list[str]] = {}
    for name in known.graph.view.nodes:
        for variable in _targets(known, name):
            found.setdefault(variable, []).append(name)
    return found


def _comes_of_data(known: _Known, writers: list[str]) -> bool:
    graph = known.graph
    above = graph.view.ancestors(_values(graph, writers), control=False)
    return any(
        graph.view.op(name) in PLACEHOLDERS
        or name in known.trainable
        or graph.traits(name).source != ""
        for name in above
    )


def _values(graph: Graph, writers: list[str]) -> Iterator[str]:
    """What writers write: all their inputs but the variable itself."""
    for name in writers:
        for edge in graph.view.data[name][1:]:
            yield edge.node
