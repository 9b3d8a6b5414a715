"""What does a rank write of the rows that have changed?

Rule: of each tensor of a checkpoint the rows of all variables that it's made of, by their numbers
in the whole tensor; as ``store.bundle.changed_rows`` has them.
"""

from __future__ import annotations

import numpy as np

from orchestrator.errors import OutputError
from orchestrator.graph.worker_graph import Variable, WorkerGraph
from orchestrator.graph.worker_tables import ShardedPart
from orchestrator.store.bundle.changed_rows import changed_tensors
from orchestrator.store.bundle.in_memory import TensorInMemory
from orchestrator.store.bundle.partitions import whole_extents
from orchestrator.store.bundle.slice_keys import extents_of_spec
from orchestrator.training.state.bundle_keys import checkpoint_keys
from orchestrator.training.state.state import State, share_of


def changed_in_memory(state: State, graph: WorkerGraph) -> list[TensorInMemory]:
    """The rows of ``state.changed``, as they are to lie in the rank's data file; nothing of a
    tensor of which no row has changed.

    Raises:
        OutputError: they are no rows of the rank's block.
    """
    keys, every = checkpoint_keys(graph), {one.name: one for one in graph.variables}
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for part in graph.tables.parts:
        for name in part.members:
            if name in (state.changed or ()) and name in state.arrays:
                rows, shape = _numbered(state, part, every[name])
                found.setdefault(keys[name], []).append((rows, state.arrays[name]))
                shapes[keys[name]] = shape
    tensors: list[TensorInMemory] = []
    for key, pairs in sorted(found.items()):
        told = sorted((pair for pair in pairs if len(pair[0])), key=lambda pair: int(pair[0][0]))
        if told:
            values = [np.ascontiguousarray(value) for _, value in told]
            tensors += changed_tensors(
                *(share_of(state)[0], key, values[0].dtype.name, shapes[key]),
                np.concatenate([rows for rows, _ in told]),
                [value.reshape(-1).view(np.uint8).data for value in values],
            )
    return tensors


def _numbered(
    state: State, part: ShardedPart, variable: Variable
) -> tuple[np.ndarray, tuple[int, ...]]:
    """The rows' numbers in the whole tensor, and its shape."""
    assert state.changed is not None
    rows, value = state.changed[variable.name], state.arrays[variable.name]
    rank, ranks = share_of(state)
    first, end = part.block(rank, ranks)
    if len(value) != len(rows) or (len(rows) and not 0 <= rows[0] <= rows[-1] < end - first):
        raise OutputError(
            f"{variable.name}: rank {rank} of {ranks} holds {end - first} rows and none of others",
            remedy="Nothing was saved; a later save is a full one",
        )
    whole, extents = extents_of_spec(variable.slice_spec)
    whole = whole or (part.rows, *value.shape[1:])
    return rows + (whole_extents(extents, whole)[0][0] + first), whole
