"""Which GPUs does this process use, and from when on?

Rule: TensorFlow reads ``CUDA_VISIBLE_DEVICES`` when it first looks for devices, which is at its
first session of any kind (reading a checkpoint is one). A standby imports TensorFlow and the graph
before that without touching a device, and takes the lost rank's devices just before its first
session. After that the choice is final for the process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from orchestrator.errors import PlacementError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_looked_with: list[str | None] = []
"""What was visible when TensorFlow first looked; empty before."""


def take_devices(identifiers: Sequence[str]) -> None:
    """Use these GPUs (indices or UUIDs, as Ray gives them) from the first session on.

    Raises:
        PlacementError: this process has opened a session with other devices.
    """
    wanted = ",".join(identifiers)
    if _looked_with and _looked_with[0] != wanted:
        raise PlacementError(
            f"this worker has used the GPUs {_looked_with[0] or 'none'} and can't change to {wanted or 'none'}",
            remedy="Start a new worker process for them",
        )
    os.environ[VISIBLE] = wanted


def devices_are_final() -> None:
    """Called before a session is opened: what is visible now stays."""
    if not _looked_with:
        _looked_with.append(os.environ.get(VISIBLE))
