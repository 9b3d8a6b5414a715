"""How does batch norm that was built for training come to use its moving averages?

Rule: the graph's own updates tell which average belongs to which statistic of the batch:
``average -= (average - statistic) * rate``. Where that is the biased sum of an average without a
bias to zero, the average is what the sum is divided into. What takes the statistic takes the
average instead; a fused operation is given both averages and told that it infers. Without such an
update nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, resolve_alias

_SUBTRACTIONS = frozenset({"AssignSub", "AssignSubVariableOp"})
_WRITERS = _SUBTRACTIONS | {"Assign", "AssignVariableOp"}
_DIVISIONS = frozenset({"RealDiv", "Div"})
_SAME = frozenset({"Identity", "StopGradient"})
_MEAN, _VARIANCE = 1, 2
"""Outputs of a fused batch norm."""


@dataclass(frozen=True)
class Averaged:
    """A statistic of the batch and the value of its moving average."""

    statistic: Edge
    average: Edge
    variable: str


def averages(graph: Graph, trainable: frozenset[str]) -> Iterator[Averaged]:
    """Every moving average of a statistic, by its update. Those of weights aren't among them."""
    for name in graph.view.nodes:
        if graph.view.op(name) not in _SUBTRACTIONS or len(graph.view.data[name]) < 2:
            continue
        variable = graph.variable_of(name)
        change = resolve_alias(graph.view, graph.view.data[name][1], _SAME)
        if variable is None or variable in trainable or graph.view.op(change.node) != "Mul":
            continue
        for factor in graph.view.data[change.node]:
            apart = resolve_alias(graph.view, factor, _SAME)
            if graph.view.op(apart.node) != "Sub":
                continue
            average, given = graph.view.data[apart.node][:2]
            statistic = resolve_alias(graph.view, given, _SAME)
            weight = graph.variable_of(statistic.node)
            mine = graph.variable_of(average.node) == variable
            if mine and weight is None:
                yield _unbiased(graph, statistic, variable) or Averaged(
                    statistic, average, variable
                )


def _unbiased(graph: Graph, statistic: Edge, biased: str) -> Averaged | None:
    """The average that a biased sum is divided into at each step, as ``assign_moving_average`` does
    unless ``zero_debias=False``: assigned, or in TensorFlow before 1.13 subtracted from itself first.
    """
    view = graph.view
    for name, op in view.ops.items():
        if op not in _WRITERS or len(view.data[name]) < 2:
            continue
        value = resolve_alias(view, view.data[name][1], _SAME)
        if op in _SUBTRACTIONS and view.op(value.node) == "Sub":
            value = resolve_alias(view, view.data[value.node][1], _SAME)
        if view.op(value.node) not in _DIVISIONS:
            continue
        variable = graph.variable_of(name)
        if variable in (None, biased) or graph.variable_of(view.data[value.node][0].node) != biased:
            continue
        assert variable is not None
        reads = [use.node for use in view.uses[variable] if view.op(use.node) == "ReadVariableOp"]
        if view.op(variable) != "VarHandleOp" or reads:
            return Averaged(statistic, Edge(reads[0] if reads else variable, 0), variable)
    return None


def with_averages(
    graph: Graph, nodes: dict[str, NodeDef], within: set[str], trainable: frozenset[str]
) -> tuple[list[str], set[str], list[str]]:
    """Let batch norm among ``within`` take its averages.

    Args:
        nodes: of a copy of the graph, by name; they're changed.

    Returns:
        What was done, in words; the fused operations among it; what stays the batch's own.
    """
    done: list[str] = []
    left: list[str] = []
    fused: dict[str, dict[int, Averaged]] = {}
    weighted = graph.view.descendants(trainable, control=False)
    for one in averages(graph, trainable):
        if one.statistic.node not in within:
            continue
        if _is_half_way(graph, one.variable, weighted):
            left.append(f"{one.statistic.tensor} is the batch's own, as in training")
        elif graph.view.op(one.statistic.node).startswith("FusedBatchNorm"):
            fused.setdefault(one.statistic.node, {})[one.statistic.port] = one
        elif _replace(graph, nodes, within, one):
            done.append(f"{one.variable} stands for the batch's own {one.statistic.tensor}")
    given = {name for name, both in fused.items() if {_MEAN, _VARIANCE} <= set(both)}
    for name in sorted(given):
        mean, variance = fused[name][_MEAN], fused[name][_VARIANCE]
        nodes[name].attr["is_training"].b = False
        nodes[name].input[3], nodes[name].input[4] = mean.average.text, variance.average.text
        done.append(f"{name} normalises by {mean.variable} and {variance.variable}")
    return done, given, left


def _is_half_way(graph: Graph, variable: str, weighted: set[str]) -> bool:
    """Whether a variable is a step on the way to another average, as the biased sum is that stands
    behind an average without a bias to zero. What the model makes of it, where weights come in
    (``weighted``), is another matter: there the loss and every update follow.
    """
    reached = graph.view.descendants(
        [variable], control=False, stop=lambda name: graph.writes(name) or name in weighted
    )
    return any(graph.written_by(name) != (variable,) for name in reached if graph.writes(name))


def _replace(graph: Graph, nodes: dict[str, NodeDef], within: set[str], one: Averaged) -> bool:
    replaced = False
    for use in graph.view.uses[one.statistic.node]:
        if use.port == one.statistic.port and use.node in within:
            nodes[use.node].input[use.slot] = one.average.text
            replaced = True
    return replaced
