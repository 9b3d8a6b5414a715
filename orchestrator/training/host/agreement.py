"""Is what the ranks have read of a checkpoint, each a part, what was saved?

Rule: no rank can tell by itself, since a piece of a checkpoint has one checksum. So they tell each
other the checksums of what they have read, before the first step, and each puts all of them
together: they find the same, and a damaged table is trained on by none.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.joint_crc import PartRead, joint_problems
from orchestrator.training.group.collectives import Collectives
from orchestrator.training.host.standing import nonsense

_PARTS = TypeAdapter(tuple[PartRead, ...])
SHOWN = 3
"""Problems told in one line."""


class Agreement:
    """This rank's part in it."""

    def __init__(self) -> None:
        self._message = b""

    def begin(self, reads: Iterable[PartRead]) -> None:
        """The state to come was read so, or wasn't read together."""
        self._message = _PARTS.dump_json(tuple(reads))

    def end(self) -> None:
        """A step was applied, so that all ranks had agreed before."""
        self._message = b""

    def reach(self, mesh: Collectives) -> None:
        """Compare with the other ranks.

        Raises:
            CorruptCheckpoint: a piece isn't what was saved, or nobody can tell.
            PeerLost.
        """
        messages = mesh.all_gather(self._message)
        if not all(len(message) for message in messages):
            return  # one of them has trained on it, so that all had agreed
        reads: list[PartRead] = []
        for rank, message in enumerate(messages):
            try:
                reads += _PARTS.validate_json(bytes(message))
            except ValidationError as error:
                raise nonsense(rank, f"what it has read: {error}") from error
        problems = joint_problems(reads)
        if problems:
            more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise CorruptCheckpoint(
                f"the ranks have read tables that aren't what was saved: {'; '.join(problems[:SHOWN])}{more}",
                remedy="Use another checkpoint, or `tfresume salvage` for what can still be read of this one",
                details={"problems": problems},
            )
