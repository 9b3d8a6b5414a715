"""Which rank writes what of a checkpoint, and do the parts that they wrote make one?

Rule: with tables divided among the workers every rank puts its rows into the store; what all hold
alike is dealt among them where there's much of it, the same way by each. All parts, of one step, are
one checkpoint; with one part missing, or of another step, there is none. What each rank found out
about its part is put together to what one would find out about all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide.outliers import Size

LEAST_PART_BYTES = 64 * 1024 * 1024
"""Of what all ranks hold alike. A store takes about a second for so much on one connection, and
each further file is some requests more for whoever reads the checkpoint.
"""


def writers(size_bytes: int, ranks: int) -> int:
    """How many of the ranks write a part each of what all hold alike, ``size_bytes`` in all."""
    return max(1, min(ranks, size_bytes // LEAST_PART_BYTES))


def dealt(sizes: Mapping[str, int], ranks: int) -> dict[str, int]:
    """Which rank writes each of the variables that all hold alike.

    Args:
        sizes: by name, in bytes.

    Returns:
        The rank by name: the largest first, each to whom has least, which is at most a third more
        than the best deal (Graham 1969). It follows from the arguments alone, on every rank.
    """
    loads = [0] * writers(sum(sizes.values()), ranks)
    owners: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        rank = min(range(len(loads)), key=lambda rank: (loads[rank], rank))
        owners[name] = rank
        loads[rank] += sizes[name]
    return owners


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
