"""Which rows does a rank want, as a message to all others?

Rule: for each read how many, and behind that their numbers, as 64-bit integers. Plain numbers that
are looked at before they're used, since they come from another process.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.training.host.standing import nonsense


def each_once(numbers: Sequence[np.ndarray]) -> np.ndarray:
    """All numbers of some arrays, in their order, none of them twice."""
    return np.unique(np.concatenate([np.zeros(0, np.int64), *numbers]))


def packed(numbers: Sequence[np.ndarray]) -> bytes:
    """How many rows each read wants, and behind that which."""
    counts = np.array([len(each) for each in numbers], np.int64)
    return np.concatenate([counts, *numbers]).tobytes()


def unpacked(message: bytes | memoryview, limits: Sequence[int], rank: int) -> list[np.ndarray]:
    """What ``packed`` was given. Raises PeerLost where that is nonsense."""
    if len(message) % 8 or len(message) < 8 * len(limits):
        raise nonsense(rank, f"{len(message)} bytes can't be the rows that it wants")
    numbers = np.frombuffer(message, np.int64)
    counts, rest = numbers[: len(limits)], numbers[len(limits) :]
    if (counts < 0).any() or counts.sum() != len(rest):
        raise nonsense(rank, f"it wants {counts.tolist()} rows and names {len(rest)}")
    found = np.split(rest, np.cumsum(counts)[:-1])
    for each, limit in zip(found, limits, strict=True):
        if each.size and (each.min() < 0 or each.max() >= limit):
            raise nonsense(rank, f"it wants rows that a table of {limit} rows hasn't")
    return found
