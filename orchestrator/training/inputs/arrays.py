"""Which rows of the user's arrays does this rank get in a step?

Rule: a pure function of (seed, batch number): epochs are permutations one after the other, and
batch n takes the rows n·b to (n+1)·b of that endless sequence. So every row is used once an epoch,
by one rank, and a position restores the order without replaying it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from orchestrator.errors import ConfigError, SourceError
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.objects.location import Location, open_location


class InputStart(Protocol):
    """Where in the input this rank begins."""

    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    @property
    def position(self) -> int: ...


class Arrays:
    """Equally long arrays by input name.

    Attributes:
        rows: how many rows each has.
        batch_size: rows of one batch of one rank.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], batch_size: int) -> None:
        self.arrays = dict(arrays)
        self.rows = len(next(iter(self.arrays.values())))
        self.batch_size = batch_size

    def take(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The rows (int64 ``[batch_size]``) of every array."""
        return {name: np.asarray(array[rows]) for name, array in self.arrays.items()}


class ArrayBatches:
    """The batches of one rank, without end.

    Args:
        arrays: where the rows come from.
        place: rank, world size and position.
        seed: of the shuffles; None keeps the order of the rows.
        once: each row once, in one epoch; the last batch may have fewer rows.
    """

    def __init__(
        self, arrays: Arrays, place: InputStart, *, seed: int | None, once: bool = False
    ) -> None:
        self._arrays = arrays
        self._place = place
        self._seed = seed
        self._once = once
        self._permutation: tuple[int, np.ndarray] | None = None

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        number = self._place.position + self._place.rank
        while not self._once or number * self._arrays.batch_size < self._arrays.rows:
            rows = self.rows_of(number)
            if self._once:
                rows = rows[: self._arrays.rows - number * self._arrays.batch_size]
            yield self._arrays.take(rows)
            number += self._place.world_size

    def rows_of(self, number: int) -> np.ndarray:
        """Row numbers of batch ``number`` of the whole group, int64 ``[batch_size]``."""
        size, rows = self._arrays.batch_size, self._arrays.rows
        places = np.arange(number * size, (number + 1) * size, dtype=np.int64)
        chosen = np.empty(size, np.int64)
        for epoch in range(int(places[0]) // rows, int(places[-1]) // rows + 1):
            here = places // rows == epoch
            chosen[here] = self._order(epoch)[places[here] % rows]
        return chosen

    def _order(self, epoch: int) -> np.ndarray:
        if self._permutation is None or self._permutation[0] != epoch:
            rows = np.arange(self._arrays.rows)
            if self._seed is not None:
                np.random.Generator(
                    np.random.Philox(key=[self._seed & (1 << 63) - 1, epoch])
                ).shuffle(rows)
            self._permutation = (epoch, rows)
        return self._permutation[1]


def open_arrays(urls: Mapping[str, str], graph: WorkerGraph, *, batch_size: int | None) -> Arrays:
    """The configured arrays, local ``.npy`` files mapped, all others read into memory.

    Args:
        urls: input name to URL of an ``.npy``, or of an ``.npz`` with ``#name``.
        graph: the inputs that it has.
        batch_size: rows of one batch of one rank.

    Raises:
        ConfigError: no batch size, an input that the graph doesn't have, or arrays of different
            lengths.
        SourceError: a file is missing or isn't what it claims to be.
    """
    if batch_size is None:
        raise ConfigError(
            "array: arrays are given without batch_size",
            remedy="Set --batch-size to the rows of one worker's step",
        )
    known = {key for port in graph.inputs for key in (port.name, port.tensor)}
    unknown = sorted(set(urls) - known)
    if unknown:
        raise ConfigError(
            f"array: the graph has no input {', '.join(unknown)}",
            remedy=f"It has {', '.join(sorted(known)) or 'none'}",
        )
    arrays = {name: _read(name, url) for name, url in urls.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not min(lengths.values()):
        raise ConfigError(
            "array: arrays differ in length or are empty: "
            + ", ".join(f"{name} has {rows} rows" for name, rows in lengths.items()),
            remedy="Give arrays with one row for each example",
        )
    return Arrays(arrays, batch_size)


def _read(name: str, url: str) -> np.ndarray:
    path, _, member = url.partition("#")
    location = open_location(path)
    try:
        loaded = _load(location)
        if isinstance(loaded, np.ndarray):
            array = loaded
        else:
            with loaded:
                array = loaded[member or _only(loaded.files)]
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise SourceError.from_cause(
            f"array.{name}: {location.shown} can't be read as an array",
            error,
            remedy="Give an .npy, or an .npz as URL#NAME",
        ) from error
    if array.ndim == 0:
        raise SourceError(
            f"array.{name}: {location.shown} is a scalar", remedy="Use --feed for constants"
        )
    return array


def _load(location: Location) -> Any:
    if location.is_local:
        return np.load(Path(location.path), mmap_mode="r", allow_pickle=False)
    return np.load(io.BytesIO(location.read_bytes()), allow_pickle=False)


def _only(members: list[str]) -> str:
    if len(members) != 1:
        raise KeyError(f"it holds {', '.join(members)}: name one with #NAME")
    return members[0]
