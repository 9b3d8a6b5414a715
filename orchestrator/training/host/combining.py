"""What does a group make of what its slots gave at the seams of one level?

Rule: dense seams become sums or means, in the fixed order of the slots; rows of sparse seams are
put one slot after the other; what is shown becomes a mean. Where batches have weights, gradients
become the weighted mean. The same function whoever computed the
slots, so a proof of it on one process speaks for every group.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.errors import GroupDisagrees
from orchestrator.training.group.collectives import Collectives
from orchestrator.training.group.summation import nodes_of
from orchestrator.training.host.contribution import Contribution, arrays_of, fitted, named
from orchestrator.training.host.reducing import sums_and_means
from orchestrator.training.host.rows import in_slot_order, packed
from orchestrator.training.host.seams import Level, Opening
from orchestrator.training.host.weighing import divided


def combined(
    mesh: Collectives,
    level: Level,
    mine: Contribution,
    dealt: Sequence[frozenset[int]],
    slots: int,
    names: Sequence[str],
    round_key: int,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """What to feed at the seams of a level, and the means of what is shown.

    Args:
        mine: what this rank brings; ``like`` is set.
        dealt: by rank, the slots that it brings; together all.
        names: the tensors that are shown in this round.
        round_key: tells the buffers of two rounds apart.

    Raises:
        PeerLost, GroupDisagrees.
    """
    assert mine.like is not None
    fed: dict[str, np.ndarray] = {}
    watched: dict[str, float] = {}
    weighted = mine.like.weight is not None
    weights = 0.0
    if level.dense or names or weighted:
        held = tuple(nodes_of(slots, each) for each in dealt)
        like, nodes = arrays_of(mine.like), mine.sums.nodes
        try:
            reduced = sums_and_means(
                mesh, level, like, nodes, slots, held, round_key, weighted=weighted
            )
        except GroupDisagrees as error:
            raise named(error, level, mine.like, mesh.rank) from error
        weights = float(reduced[-1][0]) if weighted else 0.0
        for opening, value in zip(level.dense, reduced, strict=False):
            mean = divided(value, weights) if opening.weighted else value
            fed[opening.feed] = fitted(mean, opening)
        shown = reduced[len(level.dense)] if names else ()
        watched = dict(zip(names, map(float, shown), strict=True))
    if level.rows:
        merged = in_slot_order(mesh.all_gather(packed(mine.rows)), mine.like.rows, slots)
        for (values, indices), (rows, numbers) in zip(level.rows, merged, strict=True):
            fed[values.feed] = _mean_of_rows(values, rows, slots, weights)
            fed[indices.feed] = numbers
    return fed, watched


def _mean_of_rows(values: Opening, rows: np.ndarray, slots: int, weights: float) -> np.ndarray:
    if values.weighted:
        return fitted(divided(rows, weights), values)
    return rows if values.summed else np.asarray(rows / rows.dtype.type(slots))
