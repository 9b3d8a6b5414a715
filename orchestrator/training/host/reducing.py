"""Which of a round's tensors are added up, and of which is the mean taken?

Rule: what is divided by one number goes over the wire together, so a round takes two additions at
most, and all ranks take them in the same order. What is shown is a mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.training.group.collectives import Collectives, Sum
from orchestrator.training.group.layout import Layout
from orchestrator.training.group.summation import Node
from orchestrator.training.host.seams import Level


def sums_and_means(
    mesh: Collectives,
    level: Level,
    like: Sequence[np.ndarray],
    nodes: Mapping[Node, Sequence[np.ndarray]],
    slots: int,
    held: tuple[tuple[Node, ...], ...],
    round_key: int,
    *,
    weighted: bool = False,
) -> list[np.ndarray]:
    """The sum or mean over all slots of each dense seam, behind them the mean of what is shown, and
    last the sum of the weights where there are some.

    Args:
        like: what one batch gave, for types and shapes.
        nodes: this rank's nodes of the tree.
        slots: slots of the step.
        held: by rank, the nodes that it brings.
        round_key: tells the buffers of two rounds apart.
        weighted: the last of ``like`` is a weight.

    Raises:
        PeerLost, GroupDisagrees.
    """
    summed = [opening.summed or opening.weighted for opening in level.dense]
    summed += [False] * (len(like) - len(summed) - weighted) + [True] * weighted
    found: dict[int, np.ndarray] = {}
    for adding in sorted(set(summed)):
        places = [place for place, each in enumerate(summed) if each == adding]
        layout = Layout.of([like[place] for place in places])
        wanted = Sum(layout, slots, held, 1.0 if adding else float(slots), 2 * round_key + adding)
        parts = {node: [arrays[place] for place in places] for node, arrays in nodes.items()}
        found.update(zip(places, mesh.all_reduce(parts, wanted), strict=True))
    return [found[place] for place in range(len(like))]
