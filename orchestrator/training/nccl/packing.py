"""Which seams share a buffer, so that they cost one round trip together?

Rule: small dense ones of one kind; a large tensor would lose more by the copy than it gains by the
round trip. Plain lists, the same on all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.graph.repetition.gradient_scale import GradientScale, is_summed
from orchestrator.graph.worker_graph import DenseSeam, SparseSeam, TrainTarget
from orchestrator.training.engine.tensorflow import tf

PACKED_UP_TO_BYTES = 256 * 1024
"""Dense tensors up to this size share a buffer. Measured with two ranks on one machine: a step of
eight small tensors 5 instead of 9 ms, of a perceptron of 1 MB 11 instead of 13 ms; larger tensors
lose more by the copy than they gain by the round trip.
"""
PACK_BYTES = 4 * 1024 * 1024
"""A buffer ends here, so that several are under way at once."""


def seams_by_target(
    targets: Sequence[TrainTarget],
) -> tuple[list[tuple[DenseSeam, tuple[int, ...]]], list[SparseSeam]]:
    """Every seam once; a dense one with the targets that run it."""
    dense: dict[str, tuple[DenseSeam, tuple[int, ...]]] = {}
    sparse: dict[str, SparseSeam] = {}
    for number, target in enumerate(targets):
        for seam in target.dense:
            dense[seam.node] = (seam, (*dense.get(seam.node, (seam, ()))[1], number))
        sparse.update({seam.values_node: seam for seam in target.sparse})
    return list(dense.values()), list(sparse.values())


def packs_of(
    dense: Sequence[tuple[DenseSeam, tuple[int, ...]]],
    levels: dict[str, int],
    limit: int = PACKED_UP_TO_BYTES,
    pack_bytes: int = PACK_BYTES,
    scale: GradientScale = "auto",
) -> list[list[DenseSeam]]:
    """Which seams share a buffer: small ones of known shape, of one type, one level, the same
    targets and scale, up to ``pack_bytes``.
    """
    packs: list[list[DenseSeam]] = []
    filling: dict[tuple[object, ...], tuple[list[DenseSeam], int]] = {}
    for seam, targets in dense:
        size = _seam_bytes(seam)
        if size is None or size > limit:
            packs.append([seam])
            continue
        kind = (seam.dtype, levels[seam.node], targets, is_summed(seam, scale))
        pack, filled = filling.get(kind, ([], 0))
        if not pack or filled + size > pack_bytes:
            pack, filled = [], 0
            packs.append(pack)
        pack.append(seam)
        filling[kind] = (pack, filled + size)
    return packs


def _seam_bytes(seam: DenseSeam) -> int | None:
    if seam.shape is None or any(size is None for size in seam.shape):
        return None
    return int(np.prod([size for size in seam.shape if size is not None], dtype=np.int64)) * int(
        tf.as_dtype(seam.dtype).size
    )
