"""What do the stateless random operations of one step get as their key?

Rule: a function of (seed, rank, step, phase) and of nothing that happened before, so that a retried step, a re-formed group and a
resumed run draw what an undisturbed run would have drawn, and no two ranks or steps draw the same. The node's own part of the key is
in the graph.
"""

from __future__ import annotations

import numpy as np

MASK = (1 << 64) - 1
GROUP = -1
"""In place of a rank: what every rank must draw alike, such as noise on the reduced gradients."""


def step_key(seed: int, rank: int, step: int, phase: int = 0) -> np.ndarray:
    """The value of ``tfresume/rng:0``, int64 ``[2]``; with ``GROUP`` as the rank that of ``tfresume/group_rng:0``."""
    words = [_mixed((seed & MASK) ^ _mixed(rank + 1)), _mixed(_mixed(step & MASK) ^ (phase * 0x9E3779B97F4A7C15 & MASK))]
    return np.array(words, dtype=np.uint64).view(np.int64)


def _mixed(value: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014): neighbouring numbers come out unrelated."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
