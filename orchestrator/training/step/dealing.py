"""Who computes which batch of a step?

Rule: a step has ``batches_per_step`` slots, numbered through the whole run: batch ``position + i``
is slot i of the step that begins at ``position``. Of N ranks that began at position p, rank r
serves the batches p + r, p + N + r, …, however many of them fall into one step. So a gained or lost
worker deals the slots anew and changes nothing of what is computed. Plain arithmetic; no
TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dealing:
    """How the batches of one generation are dealt.

    Attributes:
        world_size: ranks of the generation.
        batches_per_step: slots of a step.
        start: batches that the whole group had consumed before the generation.
    """

    world_size: int
    batches_per_step: int
    start: int = 0

    def owner(self, batch: int) -> int:
        """The rank that serves batch number ``batch``."""
        return (batch - self.start) % self.world_size

    def owners(self, position: int) -> tuple[int, ...]:
        """The rank of each slot of the step that begins at ``position``."""
        return tuple(self.owner(position + slot) for slot in range(self.batches_per_step))

    def batches(self, rank: int, position: int) -> tuple[int, ...]:
        """The numbers of the batches that ``rank`` serves in the step that begins at ``position``."""
        return tuple(
            position + slot for slot, owner in enumerate(self.owners(position)) if owner == rank
        )

    def slots(self, position: int) -> list[frozenset[int]]:
        """By rank, the slots whose batches it serves in the step that begins at ``position``."""
        owners = self.owners(position)
        return [
            frozenset(slot for slot, owner in enumerate(owners) if owner == rank)
            for rank in range(self.world_size)
        ]
