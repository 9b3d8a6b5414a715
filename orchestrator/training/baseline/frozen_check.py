"""Does a frozen graph give what the trained graph gives?

Rule: the source as plain TensorFlow opens it and the export as its users open it, fed the same
batches, output by output. An ONNX model is made here first, since that takes TensorFlow too. Runs
in a process of its own, ``python -m orchestrator.training.baseline.frozen_check TASK ANSWER
PARENT``, and ends with its parent.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.errors import EndOfData, OrchestratorError, UserCodeError
from orchestrator.graph.graphdef.view import GraphView
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.lifetimes import end_with
from orchestrator.training.baseline.made_up import made_up, text_for
from orchestrator.training.baseline.onnx_model import runner, to_onnx
from orchestrator.training.baseline.plain_import import import_plain, restore_plain
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.tensorflow import tf, v1
from orchestrator.training.importing.import_graph import load_extensions
from orchestrator.training.inputs.feeds import FeedContext, open_batches


@dataclass(frozen=True)
class FrozenTask:
    """What is to be compared.

    Attributes:
        graph: ``original_meta`` is the trained graph, put to inference.
        prefix: local prefix of the checkpoint.
        fetches: tensor names; ``inputs`` those that the export takes.
        places: what users call an input to the export's tensor.
        export: a ``.pb``, an ``.onnx``, or the directory of a SavedModel.
        frozen: the ``.pb`` that the ``.onnx`` is made of; empty for the others.
        made: batches are made up; else the configuration's are taken.
        rows: of made-up batches, the first number that the graph takes.
    """

    graph: WorkerGraph
    options: TrainingOptions
    config: RunConfig
    prefix: str
    fetches: tuple[str, ...]
    inputs: tuple[str, ...]
    places: dict[str, str]
    export: str
    frozen: str
    batches: int
    made: bool
    rows: tuple[int, ...]


def compare_frozen(task: FrozenTask) -> dict[str, Any]:
    """``batches``, ``values`` compared, the ``largest`` difference, relative to the largest value
    of its output, and what ``made_by`` converted the graph.

    Raises:
        OrchestratorError: a batch can't be run, or the export can't be opened.
    """
    load_extensions(task.graph, task.options)
    made_by = _converted(task) if task.frozen else ""
    batches, expected = _trained(task)
    found = _exported(task, batches)
    largest, values = 0.0, 0
    for theirs, ours in zip(expected, found, strict=True):
        for name in task.fetches:
            largest = max(largest, difference(theirs[name], ours[name]))
            values += int(np.size(theirs[name]))
    return {
        "batches": len(batches),
        "values": values,
        "largest": largest,
        "made_by": made_by,
    }


def difference(one: Any, other: Any) -> float:
    """The largest difference of two outputs, relative to the largest number; infinite where shape
    or type differ, or where only one is NaN.
    """
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if one.dtype.kind not in "fc":
        return 0.0 if np.array_equal(one, other) else float("inf")
    if np.array_equal(one, other, equal_nan=True):
        return 0.0
    apart = np.abs(one - other)
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return float("inf")
    # Of an output of tiny numbers (a softmax over many classes) absolute differences count:
    # relative to its largest they would be rounding
    whole = float(np.nanmax(np.abs(one), initial=0.0))
    return float(np.nanmax(apart, initial=0.0)) / max(whole, 1.0)


def _made_up(task: FrozenTask, rows: int) -> list[Mapping[str, Any]]:
    rng = np.random.default_rng(0)
    ports = [port for port in task.graph.inputs if not port.optional]
    view = GraphView(MetaGraphDef.FromString(task.graph.original_meta).graph_def)
    texts = {port.name: text_for(view, port.tensor) for port in ports}
    return [
        {port.name: made_up(port, rng, rows, texts[port.name]) for port in ports}
        for _ in range(task.batches)
    ]


def _given(task: FrozenTask) -> Iterator[Mapping[str, Any]]:
    stream = open_batches(task.config, task.graph, FeedContext(0, 1, 0, 0))
    for _ in range(task.batches):
        try:
            batch = stream.current()
        except EndOfData:
            return
        yield batch
        stream.applied()


def _trained(task: FrozenTask) -> tuple[list[Mapping[str, Any]], list[dict[str, Any]]]:
    """Batches that the trained graph takes, and what it gives for them."""
    choices = (
        (_made_up(task, rows) for rows in task.rows) if task.made else iter([list(_given(task))])
    )
    refused: UserCodeError | None = None
    with tf.Graph().as_default() as graph, _session(graph) as session:
        places = import_plain(task.graph, task.config.input_map)
        restore_plain(session, task.graph, task.prefix)
        for batches in choices:
            try:
                found = [_run(session, task.fetches, batch, places) for batch in batches]
            except UserCodeError as error:
                refused = refused or error
                continue
            return batches, found
    assert refused is not None, "there's one choice at least"
    raise refused


def _converted(task: FrozenTask) -> str:
    graph = v1.GraphDef.FromString(Path(task.frozen).read_bytes())
    content, made_by = to_onnx(graph, task.inputs, task.fetches)
    Path(task.export).write_bytes(content)
    return made_by


def _exported(task: FrozenTask, batches: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if task.frozen:
        run = runner(task.export)
        return [run(task.fetches, _placed(batch, task.places)) for batch in batches]
    path = Path(task.export)
    with tf.Graph().as_default() as graph, _session(graph) as session:
        if path.is_dir():
            v1.saved_model.load(session, ["serve"], task.export)
        else:
            tf.import_graph_def(v1.GraphDef.FromString(path.read_bytes()), name="")
        return [_run(session, task.fetches, batch, task.places) for batch in batches]


def _session(graph: Any) -> Any:
    """A session that runs a graph's own operations.

    TensorFlow rewrites a graph before it runs it, and a frozen one further, since its weights are
    constants: fused kernels add up in another order. How much that is depends on the processor (one
    in 5e5 of a softmax over two layers was seen), and it says nothing of the export.
    """
    settings = v1.ConfigProto()
    settings.graph_options.rewrite_options.disable_meta_optimizer = True
    settings.graph_options.optimizer_options.opt_level = v1.OptimizerOptions.L0
    return v1.Session(graph=graph, config=settings)


def _run(
    session: Any, fetches: tuple[str, ...], batch: Mapping[str, Any], places: Mapping[str, str]
) -> dict[str, Any]:
    try:
        found: dict[str, Any] = session.run(
            {name: name for name in fetches}, _placed(batch, places)
        )
    except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        raise UserCodeError.from_cause(
            "the batch for the comparison can't be run",
            error,
            remedy="Give real ones with --input, --array or --feed",
        ) from error
    return found


def _placed(batch: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    # labels, which the outputs don't need, come in the same batches
    return {places[name]: value for name, value in batch.items() if name in places}


def main(task_path: str, answer_path: str, parent: str = "") -> int:
    """Read the task; write the answer, or the error, as JSON."""
    if parent:
        end_with(int(parent))
    # written by our own parent a moment ago
    task = FrozenTask(**pickle.loads(Path(task_path).read_bytes()))
    try:
        answer = compare_frozen(task)
    except OrchestratorError as error:
        Path(f"{answer_path}.error").write_text(json.dumps(error.as_dict()))
        return 1
    Path(answer_path).write_text(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
