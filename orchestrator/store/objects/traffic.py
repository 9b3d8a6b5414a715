"""How much of any state has this process moved so far?

Rule: one counter per process, as the kernel counts a process's bytes. Whoever copies, reads,
checks, writes or sends a piece of a state adds its size, so that somebody who waits can tell slow
work from none. Only that it changes means something: a piece counts once for each thing that was
done with it.
"""

from __future__ import annotations


class Moved:
    """Bytes moved. ``add`` may be called from any thread; two that meet may lose one of their
    pieces, which harms nobody.
    """

    def __init__(self) -> None:
        self.size_bytes = 0

    def add(self, size_bytes: int) -> None:
        """So many more."""
        self.size_bytes += size_bytes


MOVED = Moved()
"""This process's."""
