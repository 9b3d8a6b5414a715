"""Is each gradient that of a mean over the batch's rows, or that of a sum?

Rule: a loss that is multiplied by M when its batch is repeated M times is a sum, and so is its
gradient; one that isn't is a mean. A loss that is a sum of terms is asked term by term, each for
the variables that it follows from. Nothing is guessed: what can't be told is ``unknown``, with the
node at which the trail ended, and is exchanged as a mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.graph.batch_scale import BatchScale, ScaleKind
from orchestrator.graph.gradients.gradient_tensors import GradientCut
from orchestrator.graph.gradients.table_rows import ROWWISE
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, Use
from orchestrator.graph.repetition.analysis import Repetition, repeated
from orchestrator.graph.repetition.losses_behind import (
    LossesBehind,
    Term,
    gradients_through,
    terms,
    variables_before,
)
from orchestrator.graph.repetition.values import Fixed, Linearity, Mixed, Rows, Unknown, Value
from orchestrator.graph.worker_graph import InputPort

BAKED_IN = "the batch's size is fixed in the graph, so a constant may stand for it"


_Reached = dict[tuple[Edge, str], set[str]]
"""A term and a gradient scope to the nodes that follow from the term's gradient there."""


@dataclass(frozen=True)
class _Part:
    """A term of a loss, judged."""

    edge: Edge
    scale: BatchScale
    variables: frozenset[str]


def batch_scales(
    graph: Graph,
    cuts: Iterable[GradientCut],
    beyond: set[str],
    ports: Iterable[InputPort],
    constants: Iterable[str],
) -> list[tuple[GradientCut, BatchScale]]:
    """The cuts with how the gradient at each follows from the number of rows.

    One that adds up gradients of a sum and of something else comes as a cut for each of them, where
    they can be told apart.

    Args:
        graph: with the cuts' names.
        beyond: the operations after all gradients.
        ports: what is fed.
        constants: names of fed tensors that hold the same value for the whole run.
    """
    cuts = tuple(cuts)
    origins = LossesBehind(graph)
    found = [origins.of(cut.values) for cut in cuts]
    wanted = {edge.node for origin in found for edge in (*origin.losses, *origin.weights)}
    wanted |= {cut.values.node for cut, origin in zip(cuts, found, strict=True) if origin.why}
    repetition = repeated(graph, ports, constants, wanted)
    parts: dict[Edge, list[_Part]] = {}
    reached: _Reached = {}
    answers: list[tuple[GradientCut, BatchScale]] = []
    for cut, origin in zip(cuts, found, strict=True):
        updated = _updated(graph, cut, beyond)
        if origin.why:
            answers.append((cut, _without_loss(repetition, cut, origin.why, updated)))
            continue
        raised = _weights(repetition, origin.weights)
        if isinstance(raised, BatchScale):
            answers.append((cut, raised))
            continue
        for loss in origin.losses:
            if loss not in parts:
                parts[loss] = [
                    _judged(repetition, term, raised) for term in terms(repetition, loss)
                ]
        judged = [part for loss in origin.losses for part in parts[loss]]
        losses = tuple(loss.tensor for loss in origin.losses)
        scale = _together(judged, updated, losses)
        split = (
            _split(graph, cut, judged, updated, losses, reached) if scale.kind == "mixed" else []
        )
        answers.extend(split or [(cut, scale)])
    return answers


def _without_loss(
    repetition: Repetition, cut: GradientCut, why: str, updated: tuple[str, ...]
) -> BatchScale:
    """Of what a value is that no gradient scope tells of: rows that are written one by one (counts
    of words) tell it themselves.
    """
    value = repetition.of(cut.values)
    if cut.indices is None or not isinstance(value, Rows) or repetition.static:
        return BatchScale("unknown", why, cut.values.node, variables=updated)
    kind, reason, node = _kind(value, 0, cut.values.node)
    return BatchScale(kind, reason, node, variables=updated)


def _weights(repetition: Repetition, weights: tuple[Edge, ...]) -> int | BatchScale:
    """The degree of what the caller of ``tf.gradients`` gave to begin with."""
    for edge in weights:
        value = repetition.of(edge)
        if not isinstance(value, Fixed | Rows) or value.degree:
            return BatchScale(
                "unknown",
                "the gradient begins with weights whose size follows from the batch",
                edge.node,
            )
    return 0


def _judged(repetition: Repetition, term: Term, raised: int) -> _Part:
    value = repetition.of(term.edge)
    # The loss with respect to the weights: what multiplies a term multiplies its gradient
    kind, why, node = _kind(value, term.degree + raised, term.edge.node)
    if repetition.static and kind != "mean":
        kind, why = "unknown", BAKED_IN
    if repetition.shapeless and kind in ("sum", "masked", "nonlinear"):
        behind = (
            repetition.graph.view.ancestors([term.edge.node], control=False) & repetition.shapeless
        )
        if behind:
            kind, why, node = (
                "unknown",
                "its shape isn't known: it may be a batch or a single number",
                min(behind),
            )
    return _Part(
        term.edge, BatchScale(kind, why, node), variables_before(repetition.graph, term.edge)
    )


def _kind(value: Value, raised: int, name: str) -> tuple[ScaleKind, str, str]:
    if isinstance(value, Unknown):
        return "unknown", value.why, value.node
    if isinstance(value, Mixed):
        return "unknown", "it adds parts that grow differently with the batch", value.node
    if not isinstance(value, Fixed | Rows):
        return "unknown", "it's a vector of sizes", name
    # the gradient of a loss with rows is that of their sum
    degree = value.degree + raised + isinstance(value, Rows)
    if value.form == Linearity.MASKED and degree == 0:
        return "masked", "it divides by a count that follows from the data", value.why
    if value.form and degree == 0:
        return "nonlinear", "it isn't linear in what each row gives", value.why
    if not value.form and degree in (0, 1):
        return ("sum" if degree else "mean"), "", name
    return (
        "unknown",
        f"it's multiplied by M^{degree} where the batch is repeated M times",
        value.why or name,
    )


def _together(parts: list[_Part], updated: tuple[str, ...], losses: tuple[str, ...]) -> BatchScale:
    """The answer for a variable from all terms that it's part of."""
    # A penalty on other weights is no part of this gradient; where it can't be seen what is
    # updated, every term may be
    known = [part for part in parts if part.variables & set(updated)]
    concerned = [part.scale for part in known or parts]
    if not concerned:
        return BatchScale("unknown", "the loss has no terms", losses[0], losses, updated)
    for kind in ("unknown", "masked", "nonlinear"):
        worst = next((scale for scale in concerned if scale.kind == kind), None)
        if worst is not None and (
            kind == "unknown" or all(scale.kind != "sum" for scale in concerned)
        ):
            return BatchScale(worst.kind, worst.why, worst.node, losses, updated)
    kinds = {scale.kind for scale in concerned}
    if len(kinds) == 1:
        return BatchScale(concerned[0].kind, "", concerned[0].node, losses, updated)
    summed = next(scale.node for scale in concerned if scale.kind == "sum")
    other = next(scale.node for scale in concerned if scale.kind != "sum")
    if not known:
        return BatchScale(
            "unknown", f"{summed} sums over rows and {other} doesn't", summed, losses, updated
        )
    return BatchScale(
        "mixed", f"{summed} sums over rows and {other} doesn't", summed, losses, updated
    )


def _split(
    graph: Graph,
    cut: GradientCut,
    parts: list[_Part],
    updated: tuple[str, ...],
    losses: tuple[str, ...],
    reached: _Reached,
) -> list[tuple[GradientCut, BatchScale]]:
    """A cut for each summand of a gradient that ``tf.gradients`` added up, if each is of terms of
    one kind; else nothing.
    """
    scope = graph.gradient_scope(cut.values.node)
    if cut.indices is not None or scope is None or graph.view.op(cut.values.node) != "AddN":
        return []
    for part in parts:
        if (part.edge, scope) not in reached:
            reached[part.edge, scope] = gradients_through(graph, part.edge, scope)
    found = []
    for slot, edge in enumerate(graph.view.data[cut.values.node]):
        concerned = [
            part
            for part in parts
            if edge.node in reached[part.edge, scope] and part.variables & set(updated)
        ]
        scale = _together(concerned, updated, losses) if concerned else None
        if scale is None or scale.kind not in ("mean", "sum"):
            return []
        found.append(
            (GradientCut(edge, (Use(cut.values.node, slot, edge.port),), shape=cut.shape), scale)
        )
    return found


def _updated(graph: Graph, cut: GradientCut, beyond: set[str]) -> tuple[str, ...]:
    """The variables that optimizers update with a gradient; empty where that can't be seen."""
    found: dict[str, None] = {}
    waiting, seen = list(cut.uses), set[str]()
    while waiting:
        use = waiting.pop(0)
        traits = graph.traits(use.node)
        if (traits.update and use.slot == traits.gradient) or traits.scatter:
            variable = graph.variable_of(use.node)
            if variable is not None:
                found[variable] = None
        elif use.node not in seen and (
            graph.view.op(use.node) in ROWWISE or graph.view.op(use.node) == "UnsortedSegmentSum"
        ):
            seen.add(use.node)
            waiting.extend(later for later in graph.view.uses[use.node] if later.node in beyond)
    return tuple(found)
