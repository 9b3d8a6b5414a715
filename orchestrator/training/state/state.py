"""What does a worker hand out: its state, and what a step showed?

Rule: plain data in host memory that pickles without a copy (protocol 5, Ray's object store). No
TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import google_crc32c
import numpy as np

from orchestrator.errors import OutputError
from orchestrator.store.bundle.joint_crc import PartRead
from orchestrator.store.objects.traffic import MOVED
from orchestrator.training.state.session_rows import LiveRows, Rows, flat_portions

ENTRY_PREFIX = "entry:"
"""Before the key of a saver entry that isn't a variable, among the names of ``State.arrays``."""

CHUNK_BYTES = 4 * 1024 * 1024
"""What a look at every value takes beside the state: google_crc32c wants a copy as bytes, a
comparison makes an array.
"""


@dataclass(frozen=True)
class State:
    """All that training changes, between two steps.

    Attributes:
        step: the global step.
        arrays: variable name to its value; ``entry:KEY`` to the value of a saver entry that isn't a
            variable (a lookup table). A variable that was never initialised is absent.
        phase: with several train operations, how many runs of the cycle are done; 0 except after a
            failure within a cycle.
        share: rank and world size of which the rows of sharded tables are
            (``ShardedPart.held``); nothing else in ``arrays`` depends on it. None where they aren't
            there.
        reads: what was read of a checkpoint's pieces that the ranks have read together, each a part,
            and that they compare before they train on it; nothing where it comes from elsewhere.
        placed: bytes by variable of what the session has already, since it was read straight into
            its place.
        live: rows of sharded tables that weren't copied. Nobody may step until they stand no more.
        changed: for a save of changed rows, of which variables ``arrays`` has some rows alone:
            their numbers in the block, int64, ascending. None where it's all of the state.
    """

    step: int
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    phase: int = 0
    share: tuple[int, int] | None = (0, 1)
    reads: tuple[PartRead, ...] = ()
    placed: Mapping[str, int] = field(default_factory=dict)
    live: LiveRows | None = None
    changed: Mapping[str, np.ndarray] | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes in host memory (string tensors count their pointers only)."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def values(self) -> Mapping[str, Rows]:
        """``arrays``, and the rows that weren't copied."""
        return self.arrays if self.live is None else {**self.arrays, **self.live.rows}


def share_of(state: State) -> tuple[int, int]:
    """Whose rows of divided tables it holds. Raises OutputError where it's nobody's."""
    if state.share is None:
        raise OutputError(
            "this worker holds no rows of the divided tables",
            remedy="Nothing was saved; the next save tries again",
        )
    return state.share


@dataclass(frozen=True)
class StepOutput:
    """What one step showed.

    Attributes:
        step: the global step after it.
        watched: tensor name to value, this rank's own batch; the mean where the tensor isn't a
            scalar.
        summaries: tag to value of the graph's scalar summaries; empty on most steps
            (``TrainingOptions.summary_steps``).
    """

    step: int
    watched: Mapping[str, float]
    summaries: Mapping[str, float]


def array_checksum(array: np.ndarray) -> int:
    """crc32c over dtype, shape and values; strings are hashed by their bytes and lengths, never by
    address.
    """
    header = (
        f"{array.dtype.str if array.dtype.kind != 'V' else array.dtype.name}{array.shape}".encode()
    )
    checksum = google_crc32c.extend(0, header)
    if array.dtype.kind == "O":
        for item in array.ravel().tolist():
            data = item if isinstance(item, bytes) else str(item).encode()
            checksum = google_crc32c.extend(checksum, b"%d:" % len(data) + data)
        return int(checksum)
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for start in range(0, values.size, CHUNK_BYTES):
        checksum = google_crc32c.extend(checksum, values[start : start + CHUNK_BYTES].tobytes())
        MOVED.add(min(CHUNK_BYTES, values.size - start))
    return int(checksum)


def checksums(state: State, *, without: frozenset[str] = frozenset()) -> dict[str, int]:
    """crc32c of every variable, by name, for comparing ranks.

    Args:
        without: names that may differ between ranks (local variables).

    The saver's other entries are left out: a lookup table hands out the same pairs in another
    order.
    """
    return {
        name: array_checksum(array)
        for name, array in sorted(state.arrays.items())
        if name not in without and not name.startswith(ENTRY_PREFIX)
    }


def nonfinite(state: State) -> tuple[str, ...]:
    """Names of the float variables (small and complex ones too) that hold NaN or an infinity."""
    return tuple(
        name for name, array in state.values.items() if is_float(array) and not _is_finite(array)
    )


def is_float(array: Rows) -> bool:
    """Whether an array holds floats, small and complex ones too."""
    return array.dtype.kind in "fc" or "float" in array.dtype.name


def _is_finite(array: Rows) -> bool:
    at_once = max(1, CHUNK_BYTES // array.dtype.itemsize)
    return all(
        bool(np.isfinite(values[start : start + at_once]).all())
        for values in flat_portions(array)
        for start in range(0, values.size, at_once)
    )
