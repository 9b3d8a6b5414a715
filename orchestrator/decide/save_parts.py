"""Which rank writes what of a checkpoint, and do the parts that they wrote make one?

Rule: with tables divided among the workers every rank puts its rows into the store; what all hold
alike is dealt among them where there's much of it, the same way by each. All parts, of one step, are
one checkpoint; with one part missing, or of another step, there is none. What each rank found out
about its part is put together to what one would find out about all.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide.outliers import Size

LEAST_PART_BYTES = 64 * 1024 * 1024
"""Of what all ranks hold alike. That is what one connection to a store moves in most of a second
(Amazon's "Performance design patterns for Amazon S3" reckons with 85 to 90 MB/s), so that less
gains little, and each further file is some requests more for whoever reads the checkpoint.
"""


@functools.lru_cache(64)
def writers(sizes: tuple[int, ...], ranks: int) -> int:
    """How many of the ranks write a part each of variables that all hold alike, by their sizes in
    bytes: as many as have enough to write.
    """
    largest_first = sorted(sizes, reverse=True)
    count = min(ranks, len(sizes), sum(sizes) // LEAST_PART_BYTES)
    while count > 1:
        loads = [0] * count
        for size, rank in zip(largest_first, _deal(largest_first, count), strict=True):
            loads[rank] += size
        enough = sum(load >= LEAST_PART_BYTES for load in loads)
        if enough == count:
            return count
        # A variable isn't cut, so that few large ones leave some ranks too little
        count = max(enough, count * 7 // 8)
    return 1


def dealt(sizes: Mapping[str, int], ranks: int) -> dict[str, int]:
    """Which rank writes each of the variables that all hold alike.

    Args:
        sizes: by name, in bytes.

    Returns:
        The rank by name. It follows from the arguments alone, on every rank.
    """
    names = sorted(sizes, key=lambda name: (-sizes[name], name))
    count = writers(tuple(sizes[name] for name in names), ranks)
    return dict(zip(names, _deal([sizes[name] for name in names], count), strict=True))


def _deal(sizes: Iterable[int], count: int) -> Iterator[int]:
    """Each to whom has least so far, which with the largest first is at most a third more than the
    best deal (Graham, Bounds on multiprocessing timing anomalies, 1969).
    """
    loads = [(0, rank) for rank in range(count)]
    for size in sizes:
        load, rank = loads[0]
        heapq.heapreplace(loads, (load + size, rank))
        yield rank


@dataclass(frozen=True)
class SavedPart:
    """What one rank has put into the store. Pickles.

    Attributes:
        rank: whose part it is.
        step, position: at which they were copied.
        save: ``actions.Grant.save``.
        report: what the data file holds, of which the index is made.
        files: what the manifest will list.
        sizes: of every float variable that the rank wrote, or wrote rows of.
        measured: of the same, as this worker measured them last before.
        stall_s: how long it stood still, which all others wait for.
        over: ``actions.Grant.over``.
    """

    rank: int
    step: int
    position: int
    save: int
    report: Any
    files: tuple[Any, ...]
    nonfinite: tuple[str, ...] = ()
    sizes: Mapping[str, Size] = field(default_factory=dict)
    measured: Mapping[str, Size] = field(default_factory=dict)
    stall_s: float = 0.0
    over: int = 0


def amiss(parts: Mapping[int, SavedPart], ranks: int) -> str:
    """Why parts, by rank, aren't one checkpoint of so many ranks; empty where they are."""
    missing = [str(rank) for rank in range(ranks) if rank not in parts]
    if missing:
        return f"nobody has written the part of rank {', '.join(missing[:3])}"
    places = {(part.step, part.position) for part in parts.values()}
    if len(places) > 1:
        return f"the ranks' parts are of steps {', '.join(str(step) for step, _ in sorted(places))}"
    if len({part.over for part in parts.values()}) > 1:
        return "some ranks have written all of their rows, or what changed since other saves"
    return ""


def sizes_together(parts: Iterable[SavedPart]) -> tuple[dict[str, Size], dict[str, Size]]:
    """The sizes of whole variables, now and as they were measured before. A variable of which only
    some rows were measured before stands in the first only.
    """
    now: dict[str, list[Size]] = {}
    before: dict[str, list[Size]] = {}
    for part in parts:
        for name, size in part.sizes.items():
            now.setdefault(name, []).append(size)
            if name in part.measured:
                before.setdefault(name, []).append(part.measured[name])
    sizes = {name: _together(blocks) for name, blocks in now.items()}
    measured = {name: _together(blocks) for name, blocks in before.items()}
    whole = {name: size for name, size in measured.items() if size.elements == sizes[name].elements}
    return sizes, whole


def _together(blocks: list[Size]) -> Size:
    """The size of what blocks of rows make together."""
    if len(blocks) == 1:
        return blocks[0]
    elements = sum(block.elements for block in blocks)
    largest = max(block.largest for block in blocks)
    alike = {(block.uniform, block.largest) for block in blocks} == {(True, largest)}
    if not math.isfinite(largest):
        return Size(math.inf, largest, blocks[0].trained, elements=elements)
    # Scaled, since squares of large numbers overflow
    scale = largest or 1.0
    squares = sum(block.elements * (block.rms / scale) ** 2 for block in blocks)
    rms = scale * math.sqrt(squares / elements)
    return Size(rms, largest, blocks[0].trained, uniform=alike, elements=elements)
