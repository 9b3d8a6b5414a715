"""How many workers train now, how many should be started, and who sits where?

Rule: a standby takes a lost rank before anything else is considered. Below ``smallest`` nobody
trains. Survivors keep their ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sizes:
    """``WorkersConfig`` and the two policies; ``largest`` is 1 for a graph that can't be cut."""

    count: int
    smallest: int
    largest: int
    standby: int
    on_loss: Literal["replace", "shrink", "wait"] = "replace"
    on_resize: Literal["keep", "scale_lr", "wait"] = "keep"


def group_size(sizes: Sizes, target: int, started: bool, survivors: int, warm: int) -> int | None:
    """The world size to form now, or None to wait for workers.

    Args:
        target: the size that the run wants to have at the moment.
        started: a generation has trained before (the first one needs ``count``).
        survivors, warm: members that stay, and loaded workers without a rank.
    """
    fill = min(target, survivors + warm)
    grown = survivors + max(0, warm - sizes.standby)
    size = min(sizes.largest, max(fill, grown if sizes.on_resize != "wait" else fill))
    fewest = (
        sizes.smallest
        if started and sizes.on_loss != "wait" and sizes.on_resize != "wait"
        else target
    )
    return size if size >= max(1, fewest) else None


def target_after(sizes: Sizes, target: int, size: int) -> int:
    """The size that the run wants from now on, after forming with ``size``."""
    return size if sizes.on_loss == "shrink" or size > target else target


def missing(sizes: Sizes, target: int, alive: int) -> int:
    """How many workers to start. ``alive`` counts members, standbys and those that are starting,
    without those about to leave.
    """
    return max(0, target + sizes.standby - alive)


def growth(sizes: Sizes, alive: int, room: int) -> int:
    """How many workers to start because the cluster has room for ``room`` more."""
    if sizes.on_resize == "wait" or sizes.on_loss == "shrink":
        return 0
    return max(0, min(room, sizes.largest + sizes.standby - alive))


def seating(
    previous: Sequence[str], staying: Sequence[str], warm: Sequence[str], size: int
) -> tuple[str, ...]:
    """Workers by rank: who stays keeps its rank where that exists, the others fill the gaps in
    order.

    Args:
        previous: the last generation's members by rank.
        staying: those of them that are to be seated.
        warm: workers without a rank, first come first served.
    """
    seats: list[str | None] = [None] * size
    rest: list[str] = []
    stays = frozenset(staying)
    for rank, worker in enumerate(previous):
        if worker in stays:
            if rank < size:
                seats[rank] = worker
            else:
                rest.append(worker)
    queue = iter([*rest, *warm])
    return tuple(worker if worker is not None else next(queue) for worker in seats)


def in_turns(workers: Sequence[str], nodes: Mapping[str, str]) -> tuple[str, ...]:
    """The workers, one of each node after the other.

    A group that begins is seated so: slots are added in an order in which ranks that differ by a
    power of two come together first, so what the ranks of one node have can be added there before
    it goes to the others.
    """
    rounds: dict[str, int] = {}
    turns: list[int] = []
    for worker in workers:
        turns.append(rounds.get(nodes[worker], 0))
        rounds[nodes[worker]] = turns[-1] + 1
    places = {node: place for place, node in enumerate(rounds)}
    order = sorted(
        range(len(workers)),
        key=lambda number: (turns[number], places[nodes[workers[number]]]),
    )
    return tuple(workers[number] for number in order)
