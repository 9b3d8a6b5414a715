"""What does a trained graph give for a batch?

Rule: the source as plain TensorFlow opens it, fed as a run would be, and the asked-for tensors
fetched batch by batch; nothing is trained. Runs in a process of its own: ``python -m
orchestrator.training.baseline.inference TASK ANSWER``.
"""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config import RunConfig
from orchestrator.errors import EndOfData, OrchestratorError, UserCodeError
from orchestrator.graph.worker_graph import WorkerGraph
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
        batches: at most so many; the end of the input ends it too.
    """

    graph: WorkerGraph
    options: TrainingOptions
    config: RunConfig
    prefix: str
    fetches: tuple[str, ...]
    batches: int
    step: int = 0


def infer(task: InferenceTask) -> list[dict[str, np.ndarray]]:
    """The fetched values of each batch, by tensor name.

    Raises:
        OrchestratorError: the source can't be opened, or the batch doesn't fit.
    """
    load_extensions(task.graph, task.options)
    stream = open_batches(task.config, task.graph, FeedContext(0, 1, task.step, 0))
    found: list[dict[str, np.ndarray]] = []
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        places = import_plain(task.graph, task.config.input_map)
        restore_plain(session, task.graph, task.prefix)
        for _ in range(task.batches):
            try:
                batch = stream.current()
            except EndOfData:
                break
            feeds = {places.get(name, name): value for name, value in batch.items()}
            try:
                values = session.run({name: name for name in task.fetches}, feeds)
            except (ValueError, TypeError, tf.errors.OpError) as error:
                raise UserCodeError.from_cause(
                    f"batch {len(found)} can't be run",
                    error,
                    remedy="Compare it with `tfresume inspect`",
                ) from error
            found.append({name: np.asarray(value) for name, value in values.items()})
            stream.applied()
    return found


def main(task_path: str, answer_path: str) -> int:
    """Read the task; write the values as ``.npz`` (``BATCH|TENSOR``), or the error as JSON beside
    it.
    """
    # written by our own parent a moment ago
    task = InferenceTask(**pickle.loads(Path(task_path).read_bytes()))
    try:
        found = infer(task)
    except OrchestratorError as error:
        Path(f"{answer_path}.error").write_text(json.dumps(error.as_dict()))
        return 1
    named: dict[str, Any] = {
        f"{number}|{name}": value
        for number, each in enumerate(found)
        for name, value in each.items()
    }
    np.savez(answer_path, **named)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
