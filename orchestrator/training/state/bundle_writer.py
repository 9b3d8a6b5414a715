"""How does a state become the files of a TensorFlow checkpoint?

Rule: TensorFlow's own SaveV2, in a small graph, under the source saver's keys and slices, so that
the original graph's saver restores them; every other variable goes under a key of its own. Nothing
here touches the training session: it runs beside the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import OutputError
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.failures import cause
from orchestrator.training.engine.gpu import devices_are_final
from orchestrator.training.engine.tensorflow import tf, v1
from orchestrator.training.state.bundle_keys import checkpoint_keys
from orchestrator.training.state.state import ENTRY_PREFIX, State


@dataclass(frozen=True)
class Stored:
    """One tensor of a bundle: its key, its slice (``SaveV2``'s spec, empty for a whole tensor), its
    dtype and value.
    """

    key: str
    slice_spec: str
    dtype: str
    value: np.ndarray


def write_bundle(state: State, graph: WorkerGraph, directory: Path, prefix: str) -> list[Path]:
    """Write ``prefix.data-…``, ``prefix.index`` and ``prefix.meta`` into ``directory``; the paths
    written.

    Args:
        state: what to write; not changed, and not kept.
        graph: keys, slices and the original graph, which becomes the ``.meta``.
        directory: local and existing.
        prefix: the checkpoint's name with its step, such as ``model.ckpt-11000``.

    Raises:
        OutputError: the files can't be written (no space left, not writable).
    """
    stored = stored_tensors(state, graph)
    path = directory / prefix
    try:
        _save(path, stored)
        path.with_name(f"{prefix}.meta").write_bytes(graph.original_meta)
    except (tf.errors.OpError, OSError) as error:
        raise OutputError(
            f"the checkpoint {prefix} can't be written into {directory}: {cause(error)}",
            remedy="Make room or mend the permissions there",
        ) from error
    return sorted(found for found in directory.iterdir() if found.name.startswith(f"{prefix}."))


def stored_tensors(state: State, graph: WorkerGraph) -> list[Stored]:
    """What the bundle of a state holds, in the order of keys."""
    keys = checkpoint_keys(graph)
    variables = [
        Stored(
            keys[variable.name], variable.slice_spec, variable.dtype, state.arrays[variable.name]
        )
        for variable in graph.variables
        if variable.name in state.arrays
    ]
    entries = [
        Stored(entry.key, entry.slice_spec, entry.dtype, state.arrays[ENTRY_PREFIX + entry.key])
        for entry in graph.saver_entries
        if ENTRY_PREFIX + entry.key in state.arrays
    ]
    return sorted(variables + entries, key=lambda item: (item.key, item.slice_spec))


def _save(path: Path, stored: list[Stored]) -> None:
    devices_are_final()
    with tf.Graph().as_default() as small, tf.device("/CPU:0"):
        feeds: list[Any] = [
            v1.placeholder(tf.as_dtype(item.dtype), name="value") for item in stored
        ]
        save = tf.raw_ops.SaveV2(
            prefix=str(path),
            tensor_names=[item.key for item in stored],
            shape_and_slices=[item.slice_spec for item in stored],
            tensors=feeds,
        )
        # One thread and no GPU: it runs beside the training, which wants both
        config = v1.ConfigProto(
            device_count={"GPU": 0}, inter_op_parallelism_threads=1, intra_op_parallelism_threads=1
        )
        with v1.Session(graph=small, config=config) as session:
            session.run(save, {feed: item.value for feed, item in zip(feeds, stored, strict=True)})
