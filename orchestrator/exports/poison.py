"""Do a tensor's numbers look as if training had gone wrong?

Rule: NaN and infinity are named, and so are finite numbers beyond 1e30: a slot of squared gradients
that a single overflow filled is finite, and stops its variable for good.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orchestrator.store.bundle.values import Chunk

ABSURD = 1e30
"""No weight or slot that training made is as large: its square overflows float32, and so would the
next step."""
_VIEWS = {"float32": "<f4", "float64": "<f8", "float16": "<f2"}
_COMPLEX = {"complex64": "<f4", "complex128": "<f8"}


class Poison:
    """Counts over a tensor's bytes as they come."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self.elements = self.not_finite = self.absurd = 0

    def add(self, chunk: Chunk) -> None:
        """The next bytes, whole elements."""
        numbers = _floats(chunk, self._dtype)
        if numbers is None:
            return
        finite = np.isfinite(numbers)
        self.elements += numbers.size
        self.not_finite += int(numbers.size - np.count_nonzero(finite))
        with np.errstate(invalid="ignore"):
            self.absurd += int(np.count_nonzero(finite & (np.abs(numbers) > ABSURD)))

    def told(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        said = []
        if self.not_finite:
            said.append(f"{self.not_finite} of {self.elements} numbers are NaN or infinite")
        if self.absurd:
            said.append(f"{self.absurd} of {self.elements} are beyond 1e30")
        return ", ".join(said)


def poison_in(dtype: str, chunks: Iterable[Chunk]) -> str:
    """What is wrong with a tensor, in words; reads it to its end."""
    poison = Poison(dtype)
    for chunk in chunks:
        poison.add(chunk)
    return poison.told()


def _floats(chunk: Chunk, dtype: str) -> np.ndarray | None:
    # The upper half of a float32, as in ``items``
    if dtype == "bfloat16":
        return (np.frombuffer(chunk, "<u2").astype("<u4") << np.uint32(16)).view("<f4")
    view = _VIEWS.get(dtype) or _COMPLEX.get(dtype)
    return None if view is None else np.frombuffer(chunk, view)
