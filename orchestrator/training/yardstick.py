"""What would one bare TensorFlow process have made of the same batches, and how far is a run's checkpoint from that?

Rule: nothing of ours touches the bare run's graph: the source's graph (repairs only), its own saver, plain ``session.run``. Batches enter
where the workers get them; those of several ranks are joined along their first dimension, so that one process sees what the group saw.
Runs in a process of its own: ``python -m orchestrator.training.yardstick TASK ANSWER``.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError, OrchestratorError
from orchestrator.graph.feeding import constants
from orchestrator.graph.worker_graph import InputPort, WorkerGraph
from orchestrator.training.checkpoint_reader import read_checkpoint
from orchestrator.training.engine import tf, v1
from orchestrator.training.feeds import BatchStream, FeedContext, open_batches
from orchestrator.training.imported import load_extensions
from orchestrator.training.options import TrainingOptions
from orchestrator.training.plain import import_plain, restore_plain


@dataclass(frozen=True)
class Task:
    """What is to be compared.

    Attributes:
        prefix: local prefix of the checkpoint that all runs started from.
        world_size, steps, start_step: of the group's run.
        whole: local prefix of what the group had after ``steps``.
        halves: the same after a save and a restart in the middle; empty where that wasn't done.
        bare: whether the bare run can be compared at all.
        tolerance: relative difference from which on the ranks' own batches are asked what they make of a variable.
    """

    graph: WorkerGraph
    options: TrainingOptions
    config: RunConfig
    prefix: str
    world_size: int
    steps: int
    start_step: int
    whole: str
    halves: str = ""
    bare: bool = True
    tolerance: float = 0.0


@dataclass(frozen=True)
class Distance:
    """How far two runs' values of one variable are apart.

    Attributes:
        largest: largest absolute difference.
        relative: the same divided by the variable's largest absolute value.
    """

    name: str
    largest: float
    relative: float


def measure(task: Task) -> dict[str, Any]:
    """The distances between bare run, group's run and interrupted run.

    Returns:
        ``bare`` and ``save``: lists of distances, largest first, or None where it wasn't compared; ``moved``: how many variables the
        steps changed; ``reason``: why the bare run couldn't be compared; ``shares``: variable to how far (relative) training on one
        rank's batches alone brings it from the bare run, where bare and group differ.

    Raises:
        OrchestratorError: a checkpoint or the graph can't be read.
    """
    before = read_checkpoint(task.graph, task.prefix).arrays
    whole = read_checkpoint(task.graph, task.whole).arrays
    halves = read_checkpoint(task.graph, task.halves).arrays if task.halves else None
    bare, reason = None, ""
    if task.bare:
        try:
            bare = train_bare(task)
        except ConfigError as error:
            reason = error.message
        except tf.errors.InvalidArgumentError as error:
            reason = f"one process can't take the workers' batches joined into one: {error.message}"
    apart = [] if bare is None else distances(bare, whole)
    differs = any(item.relative > task.tolerance for item in apart)
    return {
        "bare": None if bare is None else [asdict(item) for item in apart],
        "shares": _shares(task, bare) if bare is not None and differs and task.world_size > 1 else {},
        "save": None if halves is None else [asdict(item) for item in distances(halves, whole)],
        "moved": sum(item.largest > 0 for item in distances(before, whole)),
        "reason": reason,
    }


def _shares(task: Task, bare: Mapping[str, np.ndarray]) -> dict[str, float]:
    found: dict[str, float] = {}
    for rank in range(task.world_size):
        for item in distances(train_bare(task, [rank]), bare):
            found[item.name] = max(item.relative, found.get(item.name, 0.0))
    return found


def distances(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> list[Distance]:
    """Per variable that both have, the farthest apart first."""
    found = [_distance(name, one[name], other[name]) for name in one if name in other]
    return sorted(found, key=lambda item: (-item.relative, item.name))


def _distance(name: str, one: np.ndarray, other: np.ndarray) -> Distance:
    if one.shape != other.shape or one.dtype.kind in "OSU" or other.dtype.kind in "OSU":
        same = one.shape == other.shape and bool(np.all(one == other))
        return Distance(name, 0.0 if same else 1.0, 0.0 if same else 1.0)
    if not one.size:
        return Distance(name, 0.0, 0.0)
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    first, second = one.astype(wide), other.astype(wide)
    equal = (first == second) | (np.isnan(first) & np.isnan(second))
    apart = float(np.max(np.where(equal, 0.0, np.abs(first - second))))
    largest = float(np.max(np.abs(second)))
    if not np.isfinite(apart):
        return Distance(name, 1.0, 1.0)
    return Distance(name, apart, apart / largest if largest > 0 else apart)


def train_bare(task: Task, ranks: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """The variables after the steps of a bare process, by node name.

    Args:
        ranks: whose batches it trains on; all by default.

    Raises:
        ConfigError: the ranks' batches can't be joined into one.
        GraphMismatch: plain TensorFlow can't import or restore the source.
    """
    streams = [
        open_batches(task.config, task.graph, FeedContext(rank, task.world_size, task.start_step, 0))
        for rank in (range(task.world_size) if ranks is None else ranks)
    ]
    load_extensions(task.graph, task.options)
    settings = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default() as graph, v1.Session(graph=graph, config=settings) as session:
        places = import_plain(task.graph, task.config.input_map)
        restore_plain(session, task.graph, task.prefix)
        for _ in range(task.steps):
            batch = {
                places.get(name, name): value
                for name, value in joined([stream.current() for stream in streams], task.graph, constants(task.config)).items()
            }
            for target in task.graph.targets:
                for _ in range(target.ratio):
                    session.run(graph.get_operation_by_name(target.op), batch)
            _applied(streams)
        variables = {variable.op.name: variable for variable in v1.global_variables()}
        values: dict[str, np.ndarray] = session.run(variables)
    return values


def _applied(streams: Sequence[BatchStream]) -> None:
    for stream in streams:
        stream.applied()


def joined(batches: Sequence[Mapping[str, Any]], graph: WorkerGraph, held: Set[str] = frozenset()) -> dict[str, np.ndarray]:
    """One batch out of the ranks' batches: rows are put together along the first dimension, their number is added up, the rest stays.

    Values that happen to be equal on all ranks are rows all the same, where they're as many as the rows of what differs.

    Args:
        held: names of tensors that hold one value for the whole run.

    Raises:
        ConfigError: an input's shape has no room for that.
    """
    ports = {key: port for port in graph.inputs for key in (port.name, port.tensor)}
    values = {name: [np.asarray(batch[name]) for batch in batches] for name in batches[0]}
    rows = {name: tuple(len(value) for value in given) for name, given in values.items() if _grows(given, ports.get(name))}
    fed = {name: count for name, count in rows.items() if name not in held}
    counts = {count for name, count in fed.items() if not _equal(values[name])} or set(fed.values())
    found = {}
    for name, given in values.items():
        if not _equal(given) or (name in fed and rows[name] in counts):
            whole = _concatenated(name, given, name in rows)
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
    return all(value.shape == values[0].shape and bool(np.all(value == values[0])) for value in values[1:])


def _is_count(values: Sequence[np.ndarray]) -> bool:
    return values[0].ndim == 0 and values[0].dtype.kind in "iu"


def _concatenated(name: str, values: Sequence[np.ndarray], grows: bool) -> np.ndarray:
    if len(values) == 1:
        return values[0]
    if not grows or len({value.shape[1:] for value in values}) > 1:
        raise ConfigError(f"the batches of {len(values)} workers for {name} can't be joined into one for a single process")
    return np.concatenate(values)


def main(task_path: str, answer_path: str) -> int:
    """Read the task, write the answer or the error as JSON."""
    task = Task(**pickle.loads(Path(task_path).read_bytes()))  # written by our own parent a moment ago
    try:
        answer = measure(task)
    except OrchestratorError as error:
        answer = {"error": error.as_dict()}
    Path(answer_path).write_text(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
