"""What does the configuration ask of the rules?

Rule: the rules read these values and never the configuration itself, so that whoever starts a run
(the driver, a simulation, a test) says in one place what it wants. It doesn't change while a driver
lives.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.decide.save_policy import SavePolicy
from orchestrator.decide.scaling import Sizes


@dataclass(frozen=True)
class Policy:
    """What the configuration asks for, as the rules need it. Times in seconds."""

    sizes: Sizes
    saving: SavePolicy
    until: int
    hang_floor_s: float = 5.0
    wait_s: float = 1800.0
    batch_size: int | None = None
    max_losses_per_hour: int = 60
    batches_per_step: int | None = None
    """Slots of a step; None where each member computes one batch."""
    batches_per_slot: int = 1
    """Batches that one step takes for each slot: as many as its runs have of their own."""
    table_copies: int = 1
    """How many workers hold each row of a divided table."""
    in_place: bool = True
    """Whether a process whose group broke may be formed into the next one; else it only hands its
    state on.
    """
    peers_tell: bool = True
    """Whether a member is gone when its peers have seen it die. Ray says so later, when the process
    has given all its memory back; where the next member needs its GPU, that is waited for.
    """
