"""What can the members of a group do together?

Rule: add up what each slot gave, in the order of ``summation``; and give everybody what each one
has. Whatever carries the numbers gives the same bits, and every operation ends: with its result,
with PeerLost when a peer is gone, has left or speaks nonsense, or with GroupDisagrees when the
members don't mean the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from orchestrator.training.group.layout import Layout
from orchestrator.training.group.summation import Node


@dataclass(frozen=True)
class Sum:
    """What is to be added in one round.

    Attributes:
        layout: the arrays of each part.
        slots: slots of the step.
        held: by rank, the nodes that it brings; together all slots.
        divisor: what the whole is divided by.
        key: which buffers to use; results of one key stay as they are until the next-but-one sum
            with that key.
    """

    layout: Layout
    slots: int
    held: tuple[tuple[Node, ...], ...]
    divisor: float
    key: int


class Collectives(Protocol):
    """A group's members, connected."""

    @property
    def rank(self) -> int:
        """This member's place."""

    @property
    def world_size(self) -> int:
        """How many members there are."""

    def all_reduce(
        self, parts: Mapping[Node, Sequence[np.ndarray]], wanted: Sum
    ) -> list[np.ndarray]:
        """The sum over all slots, divided; one array for each of the layout, not to be written to.

        Args:
            parts: this member's nodes, each with one contiguous array for each of the layout.

        Raises:
            PeerLost, GroupDisagrees.
        """

    def all_gather(self, blob: bytes) -> list[bytes | memoryview]:
        """What each member gave, by rank; of any sizes. Raises PeerLost, GroupDisagrees."""

    def abandon(self) -> None:
        """Leave, from any thread: whoever waits here or at a peer gets PeerLost at once."""

    def close(self) -> None:
        """Leave, and give back connections and memory."""
