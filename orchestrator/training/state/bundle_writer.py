"""Which tensors does the checkpoint of a state hold, and under which keys?

Rule: under the source saver's keys and slices, so that the original graph's saver restores them;
every other variable goes under a key of its own. Nothing here touches the training session, nor
TensorFlow: it runs beside the training, and the values are read where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from orchestrator.decide.save_parts import dealt
from orchestrator.errors import OutputError
from orchestrator.graph.variables.alike import alike_sizes
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.graph.worker_tables import ShardedPart
from orchestrator.store.bundle.in_memory import BundleInMemory, TensorInMemory
from orchestrator.store.bundle.packed_strings import packed_strings
from orchestrator.store.bundle.partitions import whole_extents
from orchestrator.store.bundle.slice_keys import extents_of_spec, spec_of_extents
from orchestrator.store.objects.content import Content, MemoryContent
from orchestrator.training.state.bundle_keys import checkpoint_keys
from orchestrator.training.state.changed_part import changed_in_memory
from orchestrator.training.state.session_rows import BytesOfRows, Rows, SessionRows
from orchestrator.training.state.state import ENTRY_PREFIX, State, share_of


@dataclass(frozen=True)
class Stored:
    """One tensor of a bundle: its key, its slice (``SaveV2``'s spec, empty for a whole tensor), its
    dtype and value.
    """

    key: str
    slice_spec: str
    dtype: str
    value: Rows


def bundle_contents(state: State, graph: WorkerGraph, prefix: str) -> list[Content]:
    """``prefix.data-…``, ``prefix.index`` and ``prefix.meta``, as they are to lie in the store.

    Args:
        state: what to write; not changed, and read again and again as long as the contents are in
            use.
        graph: keys, slices and the original graph, which becomes the ``.meta``.
        prefix: the checkpoint's name with its step, such as ``model.ckpt-11000``.
    """
    bundle = BundleInMemory(prefix, [in_memory(item) for item in stored_tensors(state, graph)])
    return [bundle.data(), bundle.index(), meta_content(graph, prefix)]


def meta_content(graph: WorkerGraph, prefix: str) -> MemoryContent:
    """``prefix.meta``: the original graph."""
    return MemoryContent(f"{prefix}.meta", [graph.original_meta])


def part_bundle(
    state: State, graph: WorkerGraph, prefix: str, part: tuple[int, int]
) -> BundleInMemory:
    """One rank's data file of a checkpoint that several write, its rows of tables as slices of the
    tensors that they're of; or of a save of changed rows.

    Args:
        state, graph, prefix: as for ``bundle_contents``, of what ``own_part`` gives.
        part: which of how many data files it is.

    Raises:
        OutputError: the rows aren't those of that rank.
    """
    some = state.changed or {}
    rest = {name: array for name, array in state.arrays.items() if name not in some}
    tensors = [in_memory(item) for item in stored_tensors(replace(state, arrays=rest), graph)]
    return BundleInMemory(prefix, [*tensors, *changed_in_memory(state, graph)], *part)


def own_part(state: State, graph: WorkerGraph, rank: int, ranks: int) -> State:
    """What a rank writes of a checkpoint that all of so many write: of its rows those that it owns,
    not its copies of others', and what is dealt to it of what they hold alike. What only one of
    them has, or nobody knows the size of, is the first one's.
    """
    owners = dealt(alike_sizes(graph), ranks)
    divided = graph.tables.members
    arrays, live = {}, {}
    for name, array in state.arrays.items():
        if name not in divided and owners.get(name, 0) == rank:
            arrays[name] = array
    for part in graph.tables.parts:
        first, last = part.block(*share_of(state))
        for name in part.members:
            if name in (state.changed or ()):
                arrays[name] = state.arrays[name]
            elif name in state.arrays:
                arrays[name] = state.arrays[name][: last - first]
            elif state.live is not None and name in state.live.rows:
                live[name] = state.live.rows[name].foremost(last - first)
    still = state.live and replace(state.live, rows=live)
    return replace(state, arrays=arrays, live=still)


def stored_tensors(state: State, graph: WorkerGraph) -> list[Stored]:
    """What the bundle of a state holds, in the order of keys. Raises as ``part_bundle``."""
    keys = checkpoint_keys(graph)
    parts = {name: part for part in graph.tables.parts for name in part.members}
    variables, values = [], state.values
    for variable in graph.variables:
        if variable.name in values:
            value = values[variable.name]
            item = Stored(keys[variable.name], variable.slice_spec, variable.dtype, value)
            part = parts.get(variable.name)
            if part is None:
                variables.append(item)
            # Of a table with fewer rows than ranks some have none
            elif share_of(state)[1] == 1 or value.size:
                variables.append(_rows(item, part, share_of(state)))
    entries = [
        Stored(entry.key, entry.slice_spec, entry.dtype, state.arrays[ENTRY_PREFIX + entry.key])
        for entry in graph.saver_entries
        if ENTRY_PREFIX + entry.key in state.arrays
    ]
    return sorted(variables + entries, key=lambda item: (item.key, item.slice_spec))


def _rows(item: Stored, part: ShardedPart, share: tuple[int, int]) -> Stored:
    """A rank's rows of a table, or of one part of a partitioned one: the slice of the whole tensor
    that they are.
    """
    first, last = part.block(*share)
    value = item.value
    if len(value) != last - first:
        raise OutputError(
            f"{item.key!r}: rank {share[0]} of {share[1]} holds {len(value)} rows, and its block has {last - first}",
            remedy="Nothing was saved; the next save tries again",
        )
    whole, extents = extents_of_spec(item.slice_spec)
    whole = whole or (part.rows, *value.shape[1:])
    (start, _), *rest = whole_extents(extents, whole)
    spec = spec_of_extents(whole, ((start + first, last - first), *rest))
    return replace(item, slice_spec=spec)


def in_memory(item: Stored) -> TensorInMemory:
    """A tensor as it lies in a data file."""
    whole, extents = extents_of_spec(item.slice_spec)
    if item.dtype == "string":
        texts = [
            text if isinstance(text, bytes) else str(text).encode()
            for text in np.asarray(item.value, object).ravel().tolist()
        ]
        pieces, crc = packed_strings(texts)
        shape = np.shape(item.value)
        return TensorInMemory(item.key, item.dtype, shape, pieces, crc, whole, extents)
    if isinstance(item.value, SessionRows):
        rows = BytesOfRows(item.value)
        return TensorInMemory(
            *(item.key, item.dtype, item.value.shape, (rows,)), whole_shape=whole, extents=extents
        )
    value = _as_declared(np.asarray(item.value), item.dtype)
    memory = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    return TensorInMemory(
        item.key, item.dtype, value.shape, (memory,), whole_shape=whole, extents=extents
    )


def _as_declared(value: np.ndarray, dtype: str) -> np.ndarray:
    """The value in the type that the checkpoint is to hold; types that NumPy doesn't know are
    there already.
    """
    plain = value.dtype.kind in "biufc" and dtype in np.sctypeDict
    return value.astype(np.dtype(dtype), copy=False) if plain else value
