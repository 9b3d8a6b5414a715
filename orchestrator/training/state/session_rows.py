"""How are the rows of a variable read and written where they lie in a session, without a copy of all
of them?

Rule: like an array of which only slices of rows are taken and set: each is a copy, small beside the
whole, and what takes all of them takes one portion after the other. Who lets others read rows that
a step would change says when that's over. No TensorFlow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from orchestrator.errors import OutputError
from orchestrator.store.objects.traffic import MOVED
from orchestrator.vocabulary import SLICEABLE

PORTION_BYTES = 4 << 20
"""Rows that are in memory twice, or three times on their way, and what the C library keeps of that
for each thread: beside a block 64 MB may be taken. A portion takes a millisecond, a call a tenth.
"""
ROW_TYPES = frozenset(name for name in SLICEABLE if not name.startswith("q"))
"""TensorFlow makes no room for quantised numbers (no kernel of ``Empty``), and trains none."""
_NUMBER_BYTES = 8
"""Of a row's number, which is fed beside the row."""


class Stillness:
    """Whether variables stand still, so that their rows may be read. Any thread may ask."""

    def __init__(self) -> None:
        self._lock, self._over = threading.Lock(), False

    def end(self) -> None:
        """From now on they may change. Waits for the portion that is being read."""
        with self._lock:
            self._over = True

    def read(self, portion: Callable[[], np.ndarray]) -> np.ndarray:
        """What ``portion`` gives. Raises OutputError after ``end``."""
        with self._lock:
            if self._over:
                raise OutputError(
                    "the save was broken off, since training goes on before all rows were sent",
                    remedy="Nothing was saved; the next save tries again",
                )
            return portion()


@dataclass(frozen=True)
class RowCalls:
    """What touches a variable's rows.

    Attributes:
        take: row numbers, int64 ``[n]``, to a copy of those rows.
        put: row numbers and as many rows.
    """

    take: Callable[[np.ndarray], np.ndarray]
    put: Callable[[np.ndarray, np.ndarray], object]


class SessionRows:
    """A variable of numbers, ``[rows, ...]``.

    Args:
        stillness: asked before each reading.
    """

    def __init__(
        self, calls: RowCalls, shape: tuple[int, ...], dtype: np.dtype, stillness: Stillness
    ) -> None:
        self._calls, self._stillness = calls, stillness
        self.shape, self.dtype = shape, dtype

    @property
    def size(self) -> int:
        """Numbers in all."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.numbered(self._numbers(rows))

    def numbered(self, numbers: np.ndarray) -> np.ndarray:
        """A copy of the rows of these numbers, int64 ``[n]``."""
        values = self._stillness.read(lambda: self._calls.take(numbers))
        MOVED.add(values.nbytes)
        return values

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        numbers = self._numbers(rows)
        if len(values) != len(numbers):
            raise ValueError(f"{len(values)} rows for {len(numbers)}")
        if len(numbers):
            self._calls.put(numbers, np.ascontiguousarray(values, self.dtype))
            MOVED.add(values.nbytes)

    def foremost(self, rows: int) -> SessionRows:
        """The first of them, where they lie."""
        return SessionRows(self._calls, (rows, *self.shape[1:]), self.dtype, self._stillness)

    def portions(
        self, portion_bytes: int | None = None, within: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, int]]:
        """The first row of each portion, and the one behind its last; of all rows, or of those
        ``within`` a first one and the one behind the last.
        """
        begin, end = within or (0, len(self))
        row_bytes = prod(self.shape[1:]) * self.dtype.itemsize + _NUMBER_BYTES
        at_once = max(1, (portion_bytes or PORTION_BYTES) // row_bytes)
        for low in range(begin, end, at_once):
            yield low, min(low + at_once, end)

    def _numbers(self, rows: slice) -> np.ndarray:
        low, high, stride = rows.indices(len(self))
        return np.arange(low, max(low, high), stride)


Rows = np.ndarray | SessionRows
"""Rows in memory, or where they lie in a session."""


class BytesOfRows:
    """The bytes of all rows in C order, as a piece of a file that goes up."""

    def __init__(self, rows: SessionRows) -> None:
        self._rows = rows
        self._row_bytes = rows.nbytes // max(1, len(rows))

    def __len__(self) -> int:
        return self._rows.nbytes

    def __getitem__(self, wanted: slice) -> memoryview:
        begin, end, _ = wanted.indices(len(self))
        if begin >= end:
            return memoryview(b"")
        low, high = begin // self._row_bytes, -(-end // self._row_bytes)
        values = np.ascontiguousarray(self._rows[low:high])
        content = values.reshape(-1).view(np.uint8).data
        return content[begin - low * self._row_bytes : end - low * self._row_bytes]


@dataclass(frozen=True)
class LiveRows:
    """Rows of a state that weren't copied.

    Attributes:
        rows: by variable; read in portions as long as ``stillness`` says so.
    """

    rows: Mapping[str, SessionRows]
    stillness: Stillness


def flat_portions(array: Rows) -> Iterator[np.ndarray]:
    """All numbers, in one dimension: of an array at once, else one portion after the other."""
    if isinstance(array, SessionRows):
        for low, high in array.portions():
            yield array[low:high].reshape(-1)
    else:
        yield np.ascontiguousarray(array).reshape(-1)
