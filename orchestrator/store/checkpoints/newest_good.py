"""From which checkpoint does this run go on?

Rule: from the newest of its lineage that was committed and whose bytes are what they should be. A
store that doesn't answer is never taken for a bad checkpoint: going on from an older one would undo
steps that are safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import OrchestratorError
from orchestrator.store.checkpoints.candidates import Refusal
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, scan
from orchestrator.store.objects.location import Location

if TYPE_CHECKING:
    from orchestrator.store.checkpoints.verification import Checked


@dataclass(frozen=True)
class NewestGood:
    """The newest checkpoint that passed, and why newer ones didn't.

    Attributes:
        checkpoint: None where there is none that is good.
        checked: its contents.
        refused: newer ones that were passed over, newest first, fenced and uncommitted ones
            included.
    """

    checkpoint: Checkpoint | None
    checked: Checked | None
    refused: tuple[Refusal, ...]


def newest_good(
    output: Location, *, exclude: Mapping[str, str] | None = None, deep: bool = False
) -> NewestGood:
    """The run's newest good checkpoint.

    Args:
        exclude: label to reason, for those that turned out bad later (while staging).
        deep: read every byte of each candidate.

    Raises:
        OutputError, StorageUnavailable: the store doesn't answer; never taken for a bad checkpoint.
    """
    from orchestrator.store.checkpoints.verification import speaks_of_content

    refused: list[Refusal] = []
    for item in scan(output):
        reason = (exclude or {}).get(item.label, "") or item.fenced
        if not reason and not item.committed:
            reason = "it was never committed: the save didn't finish"
        if not reason:
            try:
                return NewestGood(item, item.check(deep=deep), tuple(refused))
            except OrchestratorError as error:
                if not speaks_of_content(error):
                    raise
                reason = error.message
        refused.append(Refusal(item.label, item.step, reason))
    return NewestGood(None, None, tuple(refused))
