"""In which memory does the sum of a round lie?

Rule: in one of two pieces of memory that take turns, so that the last result stays as it is
while the next one is made: a peer that was cut off before it had it takes it from there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.training.group.layout import Layout


class Results:
    """Two results of one key.

    Args:
        memory: two pieces, uint8, of the layout's size each.
    """

    def __init__(self, layout: Layout, memory: Sequence[np.ndarray]) -> None:
        self.layout = layout
        self.turn = 0
        self._memory = list(memory)
        self._views = [layout.views(each) for each in self._memory]
        for views in self._views:
            for view in views:
                view.flags.writeable = False

    def next(self) -> np.ndarray:
        """The memory of the next result."""
        self.turn ^= 1
        return self._memory[self.turn]

    @property
    def views(self) -> list[np.ndarray]:
        """The arrays of the present result."""
        return self._views[self.turn]


def aligned(size: int) -> np.ndarray:
    """uint8 memory that begins at a multiple of 64."""
    memory = np.empty(size + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    return memory[offset : offset + size]
