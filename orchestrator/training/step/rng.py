"""What do the stateless random operations of one step get as their key?

Rule: a function of (seed, number of the batch, phase) and of nothing that happened before, nor of
who computes it: a retried step, a re-formed group, another number of workers and a resumed run draw
what an undisturbed run would have drawn, and no two batches draw the same. The node's own part of
the key is in the graph.
"""

from __future__ import annotations

import numpy as np

MASK = (1 << 64) - 1
"""Python's integers have no end; SplitMix64 counts modulo 2**64."""
_SLOT, _GROUP = 1, 0
"""What tells the two families of keys apart."""


def batch_key(seed: int, batch: int, phase: int = 0) -> np.ndarray:
    """The value of ``tfresume/rng:0`` for the batch with this number in the run, int64 ``[2]``."""
    return _key(seed, _SLOT, batch, phase)


def group_key(seed: int, step: int, cycle: int, phase: int = 0) -> np.ndarray:
    """The value of ``tfresume/group_rng:0``: what every rank must draw alike, such as noise on the
    reduced gradients, int64 ``[2]``.

    Args:
        step: by the graph's own counter, which a later run from this one's checkpoint goes on with.
        cycle: steps of the group since the run's start, for a counter that stands still.
    """
    return _key(seed, _GROUP, _mixed(step & MASK) ^ cycle, phase)


def _key(seed: int, family: int, number: int, phase: int) -> np.ndarray:
    words = [
        _mixed((seed & MASK) ^ _mixed(family)),
        _mixed(_mixed(number & MASK) ^ (phase * 0x9E3779B97F4A7C15 & MASK)),
    ]
    return np.array(words, dtype=np.uint64).view(np.int64)


def _mixed(value: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014): neighbouring numbers come out
    unrelated.
    """
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
