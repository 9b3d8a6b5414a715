"""How many seams stand before each seam of a graph?

Rule: on the longest way, so that seams of one number can be exchanged together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.graph.worker_graph import TrainTarget


def seam_nodes(targets: Iterable[TrainTarget]) -> list[str]:
    """Names of all nodes at seams."""
    dense = [seam.node for target in targets for seam in target.dense]
    return dense + [
        name
        for target in targets
        for seam in target.sparse
        for name in (seam.values_node, seam.indices_node)
    ]


def seam_depths(graph: Any, targets: Sequence[TrainTarget]) -> dict[str, int]:
    """How many seams stand before each seam on the longest way. The two halves of a sparse seam go
    in one round, the later one's.
    """
    pairs = {(seam.values_node, seam.indices_node) for target in targets for seam in target.sparse}
    seams = seam_nodes(targets)
    depths = _longest_ways(graph, seams, {})
    # Putting one half of a pair off may put off what depends on it, another pair's half among that
    while late := {
        name: max(depths[one], depths[two])
        for one, two in pairs
        for name in (one, two)
        if depths[one] != depths[two]
    }:
        depths = _longest_ways(graph, seams, late)
    return depths


def _longest_ways(graph: Any, seams: Sequence[str], at_least: dict[str, int]) -> dict[str, int]:
    """Loops' back edges are left out: a seam inside a loop would run more than once a step, and
    there is none.
    """
    wanted = set(seams)
    depths: dict[str, int] = {}
    for seam in seams:
        stack = [graph.get_operation_by_name(seam)]
        while stack:
            op = stack[-1]
            if op.name in depths:
                stack.pop()
                continue
            before = [] if op.type in ("NextIteration", "RefNextIteration") else waits_for(op)
            open_ops = [other for other in before if other.name not in depths]
            if open_ops:
                stack.extend(open_ops)
                continue
            depth = max(
                (depths[other.name] + (other.name in wanted) for other in before), default=0
            )
            depths[op.name] = max(depth, at_least.get(op.name, 0))
            stack.pop()
    return {seam: depths[seam] for seam in seams}


def waits_for(op: Any) -> list[Any]:
    """The operations that ``op`` waits for."""
    return [tensor.op for tensor in op.inputs] + list(op.control_inputs)
