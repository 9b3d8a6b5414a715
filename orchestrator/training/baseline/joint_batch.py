"""Which batch does one process have to be fed to see what several workers see in one step?

Rule: rows are put together along the first dimension in the order of the slots, a fed number of
rows is added up, and what holds for the whole run stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from orchestrator.errors import ConfigError
from orchestrator.graph.worker_graph import InputPort, WorkerGraph


def joined(
    batches: Sequence[Mapping[str, Any]], graph: WorkerGraph, held: Set[str] = frozenset()
) -> dict[str, np.ndarray]:
    """One batch out of the ranks' batches: rows are put together along the first dimension, their
    number is added up, the rest stays.

    Values that happen to be equal on all ranks are rows all the same, where they're as many as the
    rows of what differs.

    Args:
        held: names of tensors that hold one value for the whole run.

    Raises:
        ConfigError: an input's shape has no room for that.
    """
    ports = {key: port for port in graph.inputs for key in (port.name, port.tensor)}
    values = {name: [np.asarray(batch[name]) for batch in batches] for name in batches[0]}
    rows = {
        name: tuple(len(value) for value in given)
        for name, given in values.items()
        if _grows(given, ports.get(name))
    }
    # How many rows the batches have is told by what differs between them. Labels that happen to be
    # equal are rows too where they are as many; a table of classes that is fed to all alike isn't
    fed = {name: count for name, count in rows.items() if name not in held}
    counts = {count for name, count in fed.items() if not _equal(values[name])} or set(fed.values())
    found = {}
    for name, given in values.items():
        if not _equal(given) or (name in fed and rows[name] in counts):
            whole = _concatenated(name, given, name in rows)
        # A fed batch size is that of the whole
        elif _is_count(given) and tuple(int(value) for value in given) in counts:
            whole = np.sum(given, axis=0, dtype=given[0].dtype)
        else:
            whole = given[0]
        found[ports[name].name if name in ports else name] = whole
    return found


def _grows(values: Sequence[np.ndarray], port: InputPort | None) -> bool:
    """Whether an input takes any number of rows."""
    free = port is None or port.shape is None or (len(port.shape) > 0 and port.shape[0] is None)
    return free and values[0].ndim > 0


def _equal(values: Sequence[np.ndarray]) -> bool:
    return all(
        value.shape == values[0].shape and bool(np.all(value == values[0])) for value in values[1:]
    )


def _is_count(values: Sequence[np.ndarray]) -> bool:
    return values[0].ndim == 0 and values[0].dtype.kind in "iu"


def _concatenated(name: str, values: Sequence[np.ndarray], grows: bool) -> np.ndarray:
    if len(values) == 1:
        return values[0]
    if not grows or len({value.shape[1:] for value in values}) > 1:
        raise ConfigError(
            f"the batches of {len(values)} workers for {name} can't be joined into one for a single process",
            remedy="Feed one value to all of them (--feed), or compare with --workers 1",
        )
    return np.concatenate(values)
