"""Where does the copy of the variables go that a save works on?

Rule: into memory that was there for the last one. New pages cost far more than the copy itself
(measured: 1.4 s against 0.1 s for a gigabyte), and training stands still meanwhile. TensorFlow
reads arrays at ``ALIGNMENT`` bytes without copying them once more.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from orchestrator.training.state.session_rows import Rows, SessionRows

ALIGNMENT = 64
"""Bytes; EIGEN_MAX_ALIGN_BYTES of TensorFlow's wheels, or a multiple of it."""


class HostBuffers:
    """One buffer per name, of the shape and dtype that it was last asked for."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}

    def fill(self, name: str, value: np.ndarray) -> np.ndarray:
        """Copy ``value`` (any shape and dtype without Python objects) into the buffer of that name,
        which the next ``fill`` of that name overwrites.
        """
        buffer = self._like(name, value)
        np.copyto(buffer, value)
        return buffer

    def fill_by_rows(self, name: str, rows: SessionRows) -> np.ndarray:
        """The same with rows that are in memory a third time only a portion at a time."""
        buffer = self._like(name, rows)
        for low, high in rows.portions():
            buffer[low:high] = rows[low:high]
        return buffer

    def _like(self, name: str, value: Rows) -> np.ndarray:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
            del buffer
            self._buffers.pop(name, None)  # before the new one is made
            buffer = self._buffers[name] = aligned(value.shape, value.dtype)
        return buffer

    def size_bytes(self, names: Collection[str]) -> int:
        """Of the buffers of those names."""
        return sum(self._buffers[name].nbytes for name in names if name in self._buffers)

    def let_go(self, names: Collection[str]) -> None:
        """Give their memory back."""
        for name in names:
            self._buffers.pop(name, None)


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array whose memory begins at a multiple of ``ALIGNMENT``; its values aren't set."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return memory[begin : begin + size].view(dtype).reshape(shape)
