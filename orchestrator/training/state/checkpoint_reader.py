"""What does a checkpoint on local disk hold for the variables of a graph?

Rule: TensorFlow's own RestoreV2 reads it (V2 and V1 format, slices of partitioned variables), in a
small graph of its own, so that the training graph's saver nodes and their device names don't
matter; large arrays are read past it. What is missing is named, all of it at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.errors import CorruptCheckpoint, GraphMismatch
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.graph.worker_graph import SaverEntry, Shape, Variable, WorkerGraph
from orchestrator.store.objects.traffic import MOVED
from orchestrator.training.engine.failures import cause
from orchestrator.training.engine.gpu import devices_are_final
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.session_config import reading_config
from orchestrator.training.engine.tensorflow import tf, v1
from orchestrator.training.state.bundle_keys import checkpoint_keys
from orchestrator.training.state.large_tensors import corrupt, index_of, large_tensor
from orchestrator.training.state.state import ENTRY_PREFIX

READ_BYTES = 256 * 1024 * 1024
"""Of tensors read in one run, so that what is read stays small beside the state; as
``snapshot.COPY_BYTES``.
"""


@dataclass(frozen=True)
class Wanted:
    """One tensor to read: where it goes, under which key, which slice, and as what."""

    name: str
    key: str
    slice_spec: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Loaded:
    """What was read, and the variables that the checkpoint lacks."""

    step: int
    arrays: dict[str, np.ndarray]
    missing: tuple[Variable, ...]


def step_in_name(prefix: str) -> int:
    """The number at the end of a checkpoint's name, 0 where it has none."""
    match = re.search(r"-(\d+)$", prefix)
    return int(match.group(1)) if match else 0


def read_checkpoint(
    graph: WorkerGraph, prefix: str, options: TrainingOptions, loading: Loading = AS_SAVED
) -> Loaded:
    """Everything in the checkpoint that the graph's variables and saver entries take.

    Args:
        prefix: local path without ``.index`` (V2), or the file itself (V1).
        options: of the session that trains in this process.
        loading: under which keys, and without which variables; of one that has grown there may be
            fewer rows than the graph has.

    Raises:
        CorruptCheckpoint: the files can't be read.
        GraphMismatch: a tensor has another shape or dtype than the graph's variable.
    """
    try:
        # load_checkpoint does no more, and imports all of the datasets (0.4 s)
        reader = v1.train.NewCheckpointReader(prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except (ValueError, tf.errors.OpError, RuntimeError) as error:
        raise _corrupt(prefix, error) from error
    wanted, missing = _wanted(graph, set(shapes), loading)
    _refuse_misfits(prefix, wanted, shapes, dtypes)
    large = _read_large(prefix, wanted)
    read = large | _restore(
        prefix, [item for item in wanted if item.name not in large], shapes, reading_config(options)
    )
    arrays = {item.name: read[item.name] for item in wanted}
    _refuse_longer(prefix, graph, arrays, loading)
    if loading.step is not None:
        return _begun_at(loading.step, graph, arrays, missing)
    counter = None if graph.step is None else arrays.get(graph.step.variable)
    step = step_in_name(prefix) if counter is None else int(counter)
    return Loaded(step, arrays, missing)


def _begun_at(
    step: int, graph: WorkerGraph, arrays: dict[str, np.ndarray], missing: tuple[Variable, ...]
) -> Loaded:
    """What was read, with another number in the graph's counter, if it has one."""
    name = "" if graph.step is None else graph.step.variable
    for variable in graph.variables:
        if variable.name == name:
            arrays[name] = np.asarray(step, tf.as_dtype(variable.dtype).as_numpy_dtype)
    return Loaded(step, arrays, tuple(one for one in missing if one.name != name))


def _wanted(
    graph: WorkerGraph, stored: set[str], loading: Loading
) -> tuple[list[Wanted], tuple[Variable, ...]]:
    keys = {name: loading.stored(key) for name, key in checkpoint_keys(graph).items()}
    restored = [variable for variable in graph.variables if not variable.local]
    found = [
        variable
        for variable in restored
        if keys[variable.name] in stored and variable.name not in loading.anew
    ]
    names = {variable.name for variable in found}
    missing = tuple(variable for variable in restored if variable.name not in names)
    wanted = [_of_variable(v, keys[v.name], loading) for v in found]
    entries = [
        entry for entry in graph.saver_entries if entry.key in stored and entry.dtype != "variant"
    ]
    return wanted + [_entry(entry) for entry in entries], missing


def _of_variable(variable: Variable, key: str, loading: Loading) -> Wanted:
    shape, spec = variable.shape, variable.slice_spec
    if variable.name in loading.grown and shape:
        # The only part of a table: all of the tensor, of as many rows as that has
        shape, spec = (None, *shape[1:]), ""
    return Wanted(variable.name, key, spec, variable.dtype, shape)


def _entry(entry: SaverEntry) -> Wanted:
    return Wanted(ENTRY_PREFIX + entry.key, entry.key, entry.slice_spec, entry.dtype, None)


def _refuse_misfits(
    prefix: str, wanted: Sequence[Wanted], shapes: Mapping[str, Any], dtypes: Mapping[str, Any]
) -> None:
    problems = []
    for item in wanted:
        if dtypes[item.key].base_dtype != tf.as_dtype(item.dtype):
            problems.append(
                f"{item.name} is {item.dtype} in the graph, {item.key} is {dtypes[item.key].name} in the checkpoint"
            )
        elif not item.slice_spec and not tf.TensorShape(item.shape).is_compatible_with(
            shapes[item.key]
        ):
            problems.append(
                f"{item.name} has shape {list(item.shape or ())}, {item.key} has {list(shapes[item.key])}"
            )
    if problems:
        raise GraphMismatch(
            f"the checkpoint {prefix} doesn't fit the graph: " + "; ".join(problems[:10]),
            remedy="Resume from a checkpoint that this graph wrote",
            details={"problems": problems},
        )


def _refuse_longer(
    prefix: str, graph: WorkerGraph, arrays: Mapping[str, np.ndarray], loading: Loading
) -> None:
    for variable in graph.variables:
        rows = (variable.shape or (None,))[0] if variable.name in loading.grown else None
        array = arrays.get(variable.name)
        if rows is not None and array is not None and len(array) > rows:
            raise GraphMismatch(
                f"the checkpoint {prefix} has {len(array)} rows of {variable.name}, the graph {rows}",
                remedy=f"Give --grow {variable.name}={len(array)}: rows aren't taken away",
            )


def _read_large(prefix: str, wanted: Sequence[Wanted]) -> dict[str, np.ndarray]:
    try:
        index = index_of(prefix)
        if index is None:
            return {}
        whole = [item for item in wanted if not item.slice_spec and item.dtype != "string"]
        read = {
            item.name: large_tensor(
                index, prefix, item.key, np.dtype(tf.as_dtype(item.dtype).as_numpy_dtype)
            )
            for item in whole
        }
    except OSError as error:
        raise _corrupt(prefix, error) from error
    return {name: array for name, array in read.items() if array is not None}


def _restore(
    prefix: str, wanted: Sequence[Wanted], shapes: Mapping[str, Any], config: Any
) -> dict[str, np.ndarray]:
    devices_are_final()
    arrays: dict[str, np.ndarray] = {}
    for portion in _portions(wanted, shapes):
        with tf.Graph().as_default() as small, tf.device("/CPU:0"):
            tensors = tf.raw_ops.RestoreV2(
                prefix=prefix,
                tensor_names=[item.key for item in portion],
                shape_and_slices=[item.slice_spec for item in portion],
                dtypes=[tf.as_dtype(item.dtype) for item in portion],
            )
            try:
                with v1.Session(graph=small, config=config) as session:
                    values = session.run(tensors)
            except tf.errors.OpError as error:
                raise _corrupt(prefix, error) from error
        for item, value in zip(portion, values, strict=True):
            arrays[item.name] = (
                np.asarray(value, dtype=object) if item.dtype == "string" else np.asarray(value)
            )
            MOVED.add(arrays[item.name].nbytes)
    return arrays


def _portions(wanted: Sequence[Wanted], shapes: Mapping[str, Any]) -> list[list[Wanted]]:
    portions: list[list[Wanted]] = []
    size = READ_BYTES  # as if full, so that the first tensor opens a portion
    for item in wanted:
        size_bytes = int(np.prod(shapes[item.key], dtype=np.int64)) * max(
            1, int(tf.as_dtype(item.dtype).size or 1)
        )
        if size + size_bytes > READ_BYTES:
            portions.append([])
            size = 0
        portions[-1].append(item)
        size += size_bytes
    return portions


def _corrupt(prefix: str, error: BaseException) -> CorruptCheckpoint:
    return corrupt(prefix, cause(error))
