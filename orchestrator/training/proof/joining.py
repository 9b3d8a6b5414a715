"""Which batches could one process be fed instead of a step's slots?

Rule: rows are put together along the first dimension as ``baseline.joint_batch`` does it, entries
of sparse tensors under row numbers of their own; where that doesn't give the slots' step, along the
second dimension, as graphs have it that put time first. What can't be joined says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.errors import ConfigError
from orchestrator.graph.worker_graph import InputPort, WorkerGraph
from orchestrator.training.baseline.joint_batch import joined

Batch = Mapping[str, Any]
SPARSE = ("/indices:0", "/values:0", "/shape:0")
"""What ``tf.sparse_placeholder`` calls its three parts."""


def joint_batches(
    batches: Sequence[Batch], graph: WorkerGraph, held: Set[str]
) -> Iterator[dict[str, np.ndarray]]:
    """One batch out of the slots', in each way that there is, the usual one first.

    Args:
        batches: input name to value, by slot.
        held: names of tensors that hold one value for the whole run.

    Raises:
        ConfigError: the first way isn't there.
    """
    named = [_by_name(batch, graph) for batch in batches]
    _refuse_ragged(named[0])
    numbered = _renumbered(named)
    held = {*held, *_sparse_shapes(named[0])}  # the same for all by now
    yield _grown(joined(numbered, graph, held), numbered)
    second = [port.name for port in graph.inputs if _is_time_first(port) and port.name in named[0]]
    if second:
        swapped = [_swapped(batch, second) for batch in numbered]
        yield _swapped(joined(swapped, _without_shapes(graph, second), held), second)


def repeated(batch: Batch, count: int, graph: WorkerGraph, held: Set[str]) -> dict[str, np.ndarray]:
    """The rows of one batch, so many times."""
    return next(joint_batches([batch] * count, graph, held))


def _by_name(batch: Batch, graph: WorkerGraph) -> dict[str, np.ndarray]:
    names = {key: port.name for port in graph.inputs for key in (port.name, port.tensor)}
    return {names.get(key, key): np.asarray(value) for key, value in batch.items()}


def _refuse_ragged(batch: Batch) -> None:
    ragged = sorted(name for name in batch if "row_splits" in name)
    if ragged:
        raise ConfigError(f"{ragged[0]} says where rows begin, so batches can't be joined by rows")


def _renumbered(batches: Sequence[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """The same batches, the entries of their sparse tensors numbered as rows of the whole."""
    found = [dict(batch) for batch in batches]
    for shape in _sparse_shapes(batches[0]):
        stem = shape.removesuffix(SPARSE[2])
        name = stem + SPARSE[0]
        sizes = [np.array(batch[shape]) for batch in batches]
        rows = np.cumsum([0, *(int(size[0]) for size in sizes)])
        # There is one more bound than batches: the end of the last
        for batch, first in zip(found, rows, strict=False):
            indices = np.array(batch[name])
            indices[:, 0] += first
            # The other dimensions may differ by batch: all entries fit into the largest
            size = np.max(sizes, axis=0)
            size[0] = rows[-1]
            batch |= {name: indices, shape: size}
    return found


def _sparse_shapes(batch: Batch) -> list[str]:
    stems = [name.removesuffix(SPARSE[2]) for name in batch if name.endswith(SPARSE[2])]
    return [stem + SPARSE[2] for stem in stems if all(stem + part in batch for part in SPARSE)]


def _grown(whole: dict[str, np.ndarray], batches: Sequence[Batch]) -> dict[str, np.ndarray]:
    # A comparison with one slot's batch would find a difference that isn't there
    if len(batches) > 1 and not any(
        np.shape(value) != np.shape(batches[0][name]) for name, value in whole.items()
    ):
        raise ConfigError("no input has room for the rows of several batches")
    return whole


def _is_time_first(port: InputPort) -> bool:
    shape = port.shape
    return shape is not None and len(shape) > 1 and shape[1] is None


def _swapped(batch: Batch, names: Sequence[str]) -> dict[str, np.ndarray]:
    return {
        name: np.swapaxes(value, 0, 1) if name in names else np.asarray(value)
        for name, value in batch.items()
    }


def _without_shapes(graph: WorkerGraph, names: Sequence[str]) -> WorkerGraph:
    return replace(
        graph,
        inputs=tuple(
            replace(port, shape=None) if port.name in names else port for port in graph.inputs
        ),
    )
