"""How is a round cut so that a bounded piece of memory is enough for any size of gradient?

Rule: the flat range of bytes of a layout is taken in blocks; in each block every rank is the owner
of an equal part, which it adds up for all. Everything that doesn't change from step to step is
worked out once: what is copied where, which views are added to which.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.training.group.collectives import Sum
from orchestrator.training.group.layout import ALIGNMENT, Layout, Piece, parts_of
from orchestrator.training.group.summation import Node, add_up, root

CUT_BYTES = 256 * 1024
"""Added and scaled at once: a sum is still in the processor's second cache when it's scaled."""


@dataclass(frozen=True)
class Block:
    """A block of a layout.

    Attributes:
        begin, end: its bytes.
        parts: by rank, the bytes that it owns, counted from the layout's beginning.
        pieces: what of which array lies where in it.
    """

    begin: int
    end: int
    parts: tuple[tuple[int, int], ...]
    pieces: tuple[Piece, ...]


def blocks_of(layout: Layout, world_size: int, block_bytes: int) -> tuple[Block, ...]:
    """The blocks of a layout, of at most ``block_bytes`` (rounded down to 64 for each rank)."""
    width = max(ALIGNMENT * world_size, block_bytes // ALIGNMENT * ALIGNMENT)
    found: list[Block] = []
    for begin in range(0, layout.size, width):
        end = min(begin + width, layout.size)
        parts = tuple(
            (begin + first, begin + last) for first, last in parts_of(end - begin, world_size)
        )
        found.append(Block(begin, end, parts, tuple(layout.pieces(begin, end))))
    return tuple(found)


class Filler:
    """Copies the arrays of a node into memory, block by block.

    Args:
        memory: uint8, at least as long as the longest block.
    """

    def __init__(self, layout: Layout, blocks: Sequence[Block], memory: np.ndarray) -> None:
        self._into = [
            [
                (
                    piece.array,
                    piece.first,
                    piece.last,
                    _typed(
                        memory,
                        piece.offset,
                        layout.arrays[piece.array][0],
                        piece.last - piece.first,
                    ),
                )
                for piece in block.pieces
            ]
            for block in blocks
        ]

    def fill(self, block: int, flat: Sequence[np.ndarray]) -> None:
        """Copy block number ``block`` of the arrays, which are given without their shape."""
        for array, first, last, view in self._into[block]:
            view[...] = flat[array][first:last]


class Additions:
    """Adds up, in place, whatever of some nodes the tree lets be added.

    Args:
        begin, end: where in the layout the sources lie; multiples of 64.
        sources: by node, uint8 memory of that size.

    Attributes:
        left: by node, the memory where what is left lies afterwards.
    """

    def __init__(
        self, wanted: Sum, begin: int, end: int, sources: Mapping[Node, np.ndarray]
    ) -> None:
        self.left = dict(sources)
        self._begin, self._typed_ranges = begin, wanted.layout.typed_ranges(begin, end)
        self._work: list[tuple[np.ndarray, np.ndarray]] = []
        add_up(wanted.slots, self.left, self._planned)

    def run(self) -> None:
        """Do it. What lies between two arrays is added as well, whatever it is."""
        with np.errstate(all="ignore"):
            for left, right in self._work:
                np.add(left, right, out=left)

    def taken_last(self, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """What would be added last, which this doesn't do any more: so many of its pairs, or none
        where it has nothing to add.
        """
        taken = self._work[-count:] if count else []
        del self._work[len(self._work) - len(taken) :]
        return taken

    def typed(self, memory: np.ndarray) -> list[np.ndarray]:
        """Memory of this part of the layout as arrays of the types in it."""
        return [
            _typed(
                memory,
                each.begin - self._begin,
                each.dtype,
                (each.end - each.begin) // np.dtype(each.dtype).itemsize,
            )
            for each in self._typed_ranges
        ]

    def _planned(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        self._work.extend(zip(self.typed(left), self.typed(right), strict=True))
        return left


class Adder:
    """Adds up one rank's part of a block.

    Args:
        sources: by node, uint8 memory that holds this part; it is used for sums on the way, too.
        result: uint8, where the whole goes.
    """

    def __init__(
        self, wanted: Sum, begin: int, sources: Mapping[Node, np.ndarray], result: np.ndarray
    ) -> None:
        # The same bits, and faster: both round the same number once where the factor is exact
        exact = math.frexp(wanted.divisor)[0] == 0.5
        self._scale = np.multiply if exact else np.divide
        self._by = 1.0 / wanted.divisor if exact else wanted.divisor
        self._additions = Additions(wanted, begin, begin + result.size, sources)
        whole = self._additions.typed(self._additions.left[root(wanted.slots)])
        results = self._additions.typed(result)
        # The last addition goes into the result itself: memory of a peer that is only read needn't
        # come back to his processor when he fills it next
        last = zip(self._additions.taken_last(len(results)), results, strict=False)
        self._last = [cut for (left, right), target in last for cut in _cuts(left, right, target)]
        self._whole = [] if self._last else list(zip(whole, results, strict=True))

    def add(self) -> None:
        """Do it."""
        self._additions.run()
        with np.errstate(all="ignore"):
            for left, right, target in self._last:
                np.add(left, right, out=target)
                self._scale(target, target.dtype.type(self._by), out=target)
            for whole, target in self._whole:
                self._scale(whole, whole.dtype.type(self._by), out=target)


def _cuts(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The same pieces of arrays of one shape, of at most ``CUT_BYTES``."""
    step = max(1, CUT_BYTES // arrays[0].itemsize)
    for begin in range(0, len(arrays[0]), step):
        yield tuple(array[begin : begin + step] for array in arrays)


def _typed(memory: np.ndarray, begin: int, dtype: str, count: int) -> np.ndarray:
    kind = np.dtype(dtype)
    view: np.ndarray = memory[begin : begin + count * kind.itemsize].view(kind)
    return view


def flattened(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays without their shape."""
    return [np.ascontiguousarray(array).reshape(-1) for array in arrays]
