"""Which gradients go through a statistic that each batch takes of its own rows, and which updates
train nothing?

Rule: a statistic is what a moving average takes up (batch norm's moments): the reduction nearest to
an update seam, or a fused batch norm. A gradient goes through it where it's computed from its
value; that a shape is computed from it counts for nothing. What is computed from the weights that it
moves is no statistic: it trains them. An update that local variables alone
take up is a metric, which a run doesn't save.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

REDUCTIONS = frozenset(("Mean", "Sum"))
"""As ``tf.nn.moments`` takes the moments, and whoever writes them by hand."""
FUSED = frozenset(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"))
SHAPES = frozenset(("Shape", "ShapeN", "Size", "Rank"))
"""What they give of a tensor doesn't follow from its numbers: a gradient for which the shape alone is
read off a statistic doesn't go through it.
"""


def statistics(updates: Iterable[Any]) -> frozenset[str]:
    """Names of the operations that reduce a batch to what an update takes up.

    Args:
        updates: the tensors that were cut at the update seams, of the imported graph.
    """
    found: set[str] = set()
    stack = [tensor.op for tensor in updates]
    seen = {op.name for op in stack}
    while stack:
        op = stack.pop()
        if op.type in REDUCTIONS or op.type in FUSED:
            found.add(op.name)
            continue
        for other in (tensor.op for tensor in op.inputs):
            if other.name not in seen and other.type not in SHAPES:
                seen.add(other.name)
                stack.append(other)
    return frozenset(found)


WRITERS = ("Assign", "Scatter", "ResourceScatter", "Apply", "ResourceApply", "SparseApply")
"""How the names of operations begin that write the variable which is their first input."""


def written_from(op: Any) -> frozenset[str]:
    """Names of the variables that take up what ``op`` gives."""
    found: set[str] = set()
    stack, seen = [op], {op.name}
    while stack:
        for consumer in (use for output in stack.pop().outputs for use in output.consumers()):
            if consumer.type.startswith(WRITERS):
                found.add(consumer.inputs[0].op.name)
            if consumer.name not in seen:
                seen.add(consumer.name)
                stack.append(consumer)
    return frozenset(found)


def computed_from(tensor: Any, names: Iterable[str]) -> bool:
    """Whether ``tensor`` is computed from the value of one of these operations."""
    wanted = frozenset(names)
    stack = [tensor.op]
    seen = {tensor.op.name}
    while stack:
        op = stack.pop()
        if op.name in wanted:
            return True
        for other in (each.op for each in op.inputs):
            if other.name not in seen:
                seen.add(other.name)
                stack.append(other)
    return False


def goes_through(tensor: Any, taken: frozenset[str]) -> bool:
    """Whether ``tensor`` is computed from the value of one of these operations, or from a fused
    batch norm that takes its own.
    """
    stack = [tensor.op]
    seen = {tensor.op.name}
    while stack:
        op = stack.pop()
        if op.name in taken or (op.type in FUSED and op.get_attr("is_training")):
            return True
        for other in (each.op for each in op.inputs):
            if other.name not in seen and other.type not in SHAPES:
                seen.add(other.name)
                stack.append(other)
    return False
