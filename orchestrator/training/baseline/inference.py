"""What does a trained graph give for a batch?

Rule: the source as plain TensorFlow opens it, fed as a run would be, and the asked-for tensors
fetched batch by batch; nothing is trained. Of several processes each serves its rank's batches, as
in a run. Runs in a process of its own: ``python -m orchestrator.training.baseline.inference TASK
ANSWER PARENT``.
"""

from __future__ import annotations

import json
import math
import pickle
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config import RunConfig
from orchestrator.errors import EndOfData, OrchestratorError, UserCodeError
from orchestrator.graph.inputs.batch_rows import rows_of
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.lifetimes import end_with
from orchestrator.training.baseline.plain_import import import_plain, restore_plain
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.tensorflow import tf, v1
from orchestrator.training.importing.import_graph import load_extensions
from orchestrator.training.inputs.feeds import FeedContext, open_batches


@dataclass(frozen=True)
class InferenceTask:
    """What is to be fetched.

    Attributes:
        graph: ``original_meta``, ``inputs`` and ``variables`` matter.
        prefix: local prefix of the checkpoint.
        fetches: tensor names.
        batches: at most so many of all ranks together, 0 for as many as there are: of what is
            constant one. The end of the input ends it too, and arrays are gone through once, in
            their order.
        means: give each tensor's mean over its elements in place of its value.
    """

    graph: WorkerGraph
    options: TrainingOptions
    config: RunConfig
    prefix: str
    fetches: tuple[str, ...]
    batches: int
    step: int = 0
    rank: int = 0
    world_size: int = 1
    means: bool = False


@dataclass(frozen=True)
class BatchOutput:
    """The fetched values of one batch, by tensor name.

    Attributes:
        number: of the batch among those of all ranks, from 0.
        rows: rows of the batch, 0 where that isn't known.
    """

    number: int
    rows: int
    values: Mapping[str, np.ndarray]


def outputs(task: InferenceTask) -> Iterator[BatchOutput]:
    """The outputs of each of this rank's batches.

    Raises:
        OrchestratorError: the source can't be opened, or the batch doesn't fit.
    """
    load_extensions(task.graph, task.options)
    context = FeedContext(task.rank, task.world_size, task.step, 0)
    stream = open_batches(task.config, task.graph, context, once=True)
    constant = not (task.config.array or task.config.input)
    most = task.batches or (1 if constant else math.inf)
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        places = import_plain(task.graph, task.config.input_map)
        restore_plain(session, task.graph, task.prefix)
        number = task.rank
        while number < most:
            try:
                batch = stream.current()
            except EndOfData:
                break
            feeds = {places.get(name, name): value for name, value in batch.items()}
            values = _fetched(session, task, number, feeds)
            yield BatchOutput(number, rows_of({k: np.asarray(v) for k, v in feeds.items()}), values)
            stream.applied()
            number += task.world_size


def _fetched(
    session: Any, task: InferenceTask, number: int, feeds: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    try:
        values = session.run({name: name for name in task.fetches}, feeds)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise UserCodeError.from_cause(
            f"batch {number} can't be run", error, remedy="Compare it with `tfresume inspect`"
        ) from error
    found = {name: np.asarray(value) for name, value in values.items()}
    return {name: mean_of(name, value) for name, value in found.items()} if task.means else found


def mean_of(name: str, value: np.ndarray) -> np.ndarray:
    """The mean over all elements, float64 ``[]``; of booleans the part that is true, NaN of an
    empty tensor.

    Raises:
        UserCodeError: it holds no real numbers.
    """
    if value.dtype.kind not in "fiub" and "float" not in value.dtype.name:
        raise UserCodeError(
            f"{name} holds {value.dtype}, which has no mean",
            remedy="Fetch a loss, an accuracy or another tensor of numbers",
        )
    if not value.size:
        return np.asarray(np.nan)
    return np.asarray(value.astype(np.float64).mean())


def infer(task: InferenceTask) -> list[dict[str, np.ndarray]]:
    """The fetched values of each batch, by tensor name. Raises what ``outputs`` does."""
    return [dict(each.values) for each in outputs(task)]


def main(task_path: str, answer_path: str, parent: str = "") -> int:
    """Read the task; write the values as ``.npz`` (``BATCH|TENSOR``, and ``rows``: int64 ``[batches,
    2]`` of number and rows), or the error as JSON beside it.
    """
    if parent:
        end_with(int(parent))
    # written by our own parent a moment ago
    task = InferenceTask(**pickle.loads(Path(task_path).read_bytes()))
    try:
        found = list(outputs(task))
    except OrchestratorError as error:
        Path(f"{answer_path}.error").write_text(json.dumps(error.as_dict()))
        return 1
    named: dict[str, Any] = {
        f"{each.number}|{name}": value for each in found for name, value in each.values.items()
    }
    rows = np.asarray([(each.number, each.rows) for each in found], np.int64).reshape(-1, 2)
    np.savez(answer_path, rows=rows, **named)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
