"""Where does each array of a round lie in one flat range of bytes?

Rule: arrays of one type stand together, each at a multiple of 64 bytes: TensorFlow takes such
memory as it is, a vector unit likes it, and the range can be cut at any multiple of 64 without
cutting an element.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALIGNMENT = 64
"""Bytes: a cache line, and what TensorFlow aligns its own tensors to (``kAllocatorAlignment`` of
its ``xla/tsl/framework/allocator.h``); what isn't aligned so it copies when it's fed.
"""


@dataclass(frozen=True)
class TypedRange:
    """A part of the bytes that holds one type only: from ``begin`` to ``end``."""

    dtype: str
    begin: int
    end: int


@dataclass(frozen=True)
class Piece:
    """A part of an array: elements ``first`` to ``last`` of array number ``array``, at byte
    ``offset``.
    """

    array: int
    first: int
    last: int
    offset: int


@dataclass(frozen=True, eq=False)
class Layout:
    """The arrays of a round; made by ``of``, so that equal layouts of one process are one object.

    Attributes:
        arrays: dtype (NumPy's name) and shape of each, in the order in which they are given.
    """

    arrays: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray]) -> Layout:
        """The layout of arrays like these."""
        return _interned(tuple((array.dtype.name, array.shape) for array in arrays))

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each array begins."""
        found, at = [0] * len(self.arrays), 0
        for number in sorted(range(len(self.arrays)), key=lambda each: self.arrays[each][0]):
            found[number] = at
            at += _aligned(self._bytes(number))
        return tuple(found)

    @functools.cached_property
    def size(self) -> int:
        """Bytes of the whole range, a multiple of 64."""
        return sum(_aligned(self._bytes(number)) for number in range(len(self.arrays)))

    def typed_ranges(self, begin: int, end: int) -> list[TypedRange]:
        """The types between two bytes, both multiples of 64."""
        found: list[TypedRange] = []
        for number in sorted(range(len(self.arrays)), key=lambda each: self.offsets[each]):
            dtype, start = self.arrays[number][0], self.offsets[number]
            first, last = max(begin, start), min(end, start + _aligned(self._bytes(number)))
            if first >= last:
                continue
            if found and found[-1].dtype == dtype and found[-1].end == first:
                first = found.pop().begin
            found.append(TypedRange(dtype, first, last))
        return found

    def pieces(self, begin: int, end: int) -> list[Piece]:
        """The parts of arrays between two bytes, both multiples of 64; offsets count from
        ``begin``.
        """
        found: list[Piece] = []
        for number, start in enumerate(self.offsets):
            width = np.dtype(self.arrays[number][0]).itemsize
            first, last = max(begin, start), min(end, start + self._bytes(number))
            if first < last:
                found.append(
                    Piece(number, (first - start) // width, (last - start) // width, first - begin)
                )
        return found

    def views(self, memory: np.ndarray) -> list[np.ndarray]:
        """The arrays in ``memory`` (uint8, ``size`` bytes)."""
        found = []
        for number, (dtype, shape) in enumerate(self.arrays):
            start = self.offsets[number]
            found.append(memory[start : start + self._bytes(number)].view(dtype).reshape(shape))
        return found

    def _bytes(self, number: int) -> int:
        dtype, shape = self.arrays[number]
        return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


@functools.lru_cache(maxsize=256)
def _interned(arrays: tuple[tuple[str, tuple[int, ...]], ...]) -> Layout:
    return Layout(arrays)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def parts_of(size: int, count: int) -> list[tuple[int, int]]:
    """``size`` bytes (a multiple of 64) cut into ``count`` parts of nearly the same number of
    bytes, each a multiple of 64.
    """
    units = size // ALIGNMENT
    cuts = [units * number // count * ALIGNMENT for number in range(count + 1)]
    return list(itertools.pairwise(cuts))
