"""Which gradients does a group add up, and of which does it take the mean?

Rule: ``auto`` adds up what is known to be the gradient of a sum over rows, so that the group
computes what one process with all batches in one would; of everything else it takes the mean. What
an update takes besides gradients follows the same rule, whatever was chosen for gradients; only
``mean``, which a run keeps that began before sums were known, takes the mean there too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from orchestrator.graph.worker_graph import DenseSeam, SparseSeam, TrainTarget

GradientScale = Literal["auto", "mean", "sum"]


def is_summed(seam: DenseSeam | SparseSeam, choice: GradientScale) -> bool:
    """Whether the group adds up at a seam."""
    if isinstance(seam, DenseSeam) and seam.role == "update":
        return choice != "mean" and seam.scale.kind == "sum"
    return choice == "sum" or (choice == "auto" and seam.scale.kind == "sum")


def gradient_seams(targets: Iterable[TrainTarget]) -> list[DenseSeam | SparseSeam]:
    """The seams at which gradients are exchanged, each once."""
    found: dict[str, DenseSeam | SparseSeam] = {}
    for target in targets:
        found.update({seam.node: seam for seam in target.dense if seam.role == "gradient"})
        found.update({seam.values_node: seam for seam in target.sparse})
    return list(found.values())
