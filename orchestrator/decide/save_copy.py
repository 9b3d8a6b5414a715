"""Does a save copy a worker's rows of divided tables, or are they sent from where they lie?

Rule: they're copied where there's room for a second block, and training goes on while the copy is
sent. Where there's none training stands still until the rows are sent: that is slower, and takes no
memory. What can't be known is taken for room enough, as for tables that aren't divided.
"""

from __future__ import annotations

from dataclasses import dataclass

RESERVE_BYTES = 256 << 20
"""Left for what the process takes besides: 64 MB of a save's own, and activations and batches that
may be larger at another step.
"""


@dataclass(frozen=True)
class MemoryLeft:
    """What a process may still take, in bytes; None where nothing says so.

    Attributes:
        own_bytes: by itself: its resource limits, and what the run reserves for a worker.
        shared_bytes: all of this machine or container, which ``sharers`` workers take alike.
    """

    own_bytes: int | None
    shared_bytes: int | None
    sharers: int = 1

    @property
    def each_bytes(self) -> int | None:
        """What one of the workers may count on."""
        shares = [] if self.shared_bytes is None else [self.shared_bytes // max(1, self.sharers)]
        known = shares if self.own_bytes is None else [*shares, self.own_bytes]
        return min(known, default=None)


def copies_rows(rows_bytes: int, buffer_bytes: int, left: MemoryLeft) -> bool:
    """Whether a save copies its rows.

    Args:
        rows_bytes: of all rows that the worker holds.
        buffer_bytes: memory that was taken for the copy of an earlier save, and is there still.
    """
    new_bytes = max(0, rows_bytes - buffer_bytes)
    each_bytes = left.each_bytes
    return not new_bytes or each_bytes is None or new_bytes + RESERVE_BYTES <= each_bytes
