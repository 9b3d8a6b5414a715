"""Which values does a save work on: a copy of all, or rows where they lie?

Rule: ``decide.save_copy`` says so, by what there is of memory now. On a GPU the host has no block of
its own, so a copy is made there.
"""

from __future__ import annotations

import numpy as np

from orchestrator.decide.save_copy import copies_rows
from orchestrator.training.engine.memory_left import memory_left
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.group.addresses import Address
from orchestrator.training.state.session_rows import LiveRows
from orchestrator.training.state.snapshot import Snapshot


def values_for_save(
    snapshot: Snapshot, session: LiveSession, options: TrainingOptions, spec: GroupSpec | None
) -> tuple[dict[str, np.ndarray], LiveRows | None]:
    """Copies in memory that the next call overwrites, and the rows that weren't copied."""
    rows_bytes, buffer_bytes = snapshot.rows_bytes
    if rows_bytes and not options.gpu:
        left = memory_left(options.reserved_bytes, _sharers(spec))
        if not copies_rows(rows_bytes, buffer_bytes, left):
            return snapshot.copy_rest(session)
    return snapshot.copy_all(session), None


def _sharers(spec: GroupSpec | None) -> int:
    """Members of the group on this machine."""
    if spec is None or spec.world_size < 2:
        return 1
    machines = [Address.parse(text).machine for text in spec.addresses]
    return machines.count(machines[spec.rank])
