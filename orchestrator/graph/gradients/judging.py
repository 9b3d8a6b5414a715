"""What is a value that an update takes, and has it a mean?

Rule: a mean or a sum over rows can be exchanged; what has a value for each row, or is a whole number
that counts nothing, can't.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.graph.batch_scale import BatchScale
from orchestrator.graph.gradients.training_writers import ASSIGNMENTS
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import COMPLEX, FLOATS, INTEGERS
from orchestrator.graph.graphdef.view import Edge, Use


@dataclass(frozen=True)
class Judged:
    """What a value that an update takes is.

    Attributes:
        scale: of a mean over rows, of a sum, or of what else.
        rows: it has a value for each row of the batch.
    """

    scale: BatchScale
    rows: bool = False


Judge = Callable[[Edge], Judged]


def is_plain(judged: Judged) -> bool:
    """Whether a value is a mean or a sum over rows."""
    return judged.scale.kind in ("mean", "sum") and not judged.rows


def can_average(graph: Graph, edge: Edge, use: Use, scale: BatchScale) -> bool:
    """Whole numbers are exchanged where they count rows, or are known to follow from a mean: class
    numbers and places in a ring have none.
    """
    dtype = graph.dtype(edge)
    if dtype in FLOATS | COMPLEX:
        return True
    counts = dtype in INTEGERS and scale.kind in ("mean", "sum")
    return counts and (not graph.writes(use.node) or graph.view.op(use.node) in ASSIGNMENTS)
