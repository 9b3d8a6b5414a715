"""Are several train ops over different variables phases, to be trained one after the other?

Rule: they are where the second's updates depend on what the first trains and not the other way
round (pre-training, then fine-tuning). Where each depends on the other they alternate (a GAN);
where neither does they may run in the same step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import permutations

from orchestrator.graph.graphdef.nodes import Graph


def phases_among(
    graph: Graph, trained: Sequence[tuple[str, Collection[str]]]
) -> tuple[str, str] | None:
    """The train ops of a first and a second phase; None where no two are phases.

    Args:
        trained: train op and the variables that it updates, which no two have in common.
    """
    above = [
        graph.view.ancestors(_updating(graph, op, set(updates)), control=False)
        for op, updates in trained
    ]
    for (first, before), (second, after) in permutations(zip(trained, above, strict=True), 2):
        if not after.isdisjoint(first[1]) and before.isdisjoint(second[1]):
            return first[0], second[0]
    return None


def _updating(graph: Graph, op: str, updates: set[str]) -> list[str]:
    """The operations with which a train op updates its variables."""
    return [
        name
        for name in graph.writers(graph.view.ancestors([op]))
        if not updates.isdisjoint(graph.written_by(name))
    ]
