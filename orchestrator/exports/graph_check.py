"""Does an exported graph give what the trained one gives?

Rule: TensorFlow runs both on the same batches, in a process of its own, before an export is declared
complete. What both share, such as a wrongly chosen switch, isn't seen here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.driver.tensorflow_process import ask_tensorflow
from orchestrator.errors import GraphMismatch, GraphRefused
from orchestrator.exports.graph_files import FILES, Endpoint
from orchestrator.graph.fetching import fetch_graph
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.inference.batch_rows import batch_rows
from orchestrator.graph.inference.freezing import Frozen, needed_for
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.checkpoints.source import Source
from orchestrator.store.transfer.staging import stage
from orchestrator.training.engine.options import TrainingOptions

MODULE = "orchestrator.training.baseline.frozen_check"
TOLERANCE = 1e-6
"""Of the outputs' size: float32's own rounding where operations are done in another order."""
ONNX_TOLERANCE = 1e-4
"""The same for an ONNX model, which other kernels compute: they add a convolution's or a product's
terms in another order, and float32 rounds each differently, which a loop carries from step to
step. Of 20 third-party checkpoints 19 agreed to 1e-5, most to 1e-6; a recurrent one was 1.4e-5 off.
What is converted wrongly (another epsilon, another padding) is off by more.
"""
BATCHES = 2
"""One may be a lucky one; more say nothing new of constants."""
TIMEOUT_S = 3600.0
"""Longest time for the process that runs both graphs: large ones take minutes to read."""


def checked(
    config: RunConfig,
    source: Source,
    trained: Graph,
    outputs: Sequence[Edge],
    frozen: Frozen,
    inputs: Sequence[Endpoint],
    file: Path,
    room: Path,
    left: Sequence[str],
) -> dict[str, Any]:
    """The comparison's outcome: ``difference``, ``compared`` batches, whether they were ``made``
    up, and what converted the graph (``made_by``).

    Args:
        trained: the graph, put to inference.
        inputs: of the export.
        file: the export; an ONNX model is made here, of the frozen graph that is there instead.
        left: training switches that weren't put to inference, in words.

    Raises:
        GraphMismatch: both differ.
        GraphRefused: the trained graph can't be run for these outputs.
        OrchestratorError: what the process that runs both says.
    """
    made = _is_made_up(config)
    fetches = [edge.tensor for edge in outputs]
    runnable = trusted(config, source, trained, outputs)
    to_onnx = file.name == FILES["onnx"]
    task = {
        "graph": runnable,
        "options": TrainingOptions(
            import_modules=tuple(config.import_modules),
            load_op_library=tuple(config.load_op_library),
            py_func=dict(config.py_func),
        ),
        "config": config,
        "prefix": str(stage(source.files, room / "source")),
        "fetches": tuple(fetches),
        "inputs": tuple(one.tensor for one in inputs),
        "places": _places(runnable, frozen),
        "export": str(file.parent if file.name == FILES["saved-model"] else file),
        "frozen": str(room / FILES["frozen"]) if to_onnx else "",
        "batches": BATCHES,
        "made": made,
        "rows": batch_rows(trained, needed_for(trained, outputs)),
    }
    answer_at = room / "answer.json"
    ask_tensorflow(MODULE, task, answer_at, TIMEOUT_S, str(os.getpid()))
    answer = json.loads(answer_at.read_text())
    if not answer["batches"] or answer["largest"] > (ONNX_TOLERANCE if to_onnx else TOLERANCE):
        written = _written(trained, outputs)
        reasons = [
            *left[:1],
            *(f"running it writes {name}, which an export holds still" for name in written[:1]),
        ]
        raise GraphMismatch(
            f"the export gives something else than the trained graph: {answer['largest']:.2g} apart"
            + (f" ({'; '.join(reasons)})" if reasons else ""),
            remedy="Name another output with --fetch TENSOR",
            details={"difference": answer["largest"], "written": written},
        )
    return {
        "difference": answer["largest"],
        "compared": answer["batches"],
        "made": made,
        "made_by": answer["made_by"],
    }


def _written(graph: Graph, outputs: Sequence[Edge]) -> list[str]:
    """The variables that computing the outputs writes: a state that goes from batch to batch."""
    run = graph.view.ancestors([edge.node for edge in outputs])
    return sorted({name for node in run if graph.writes(node) for name in graph.written_by(node)})


def _is_made_up(config: RunConfig) -> bool:
    return not (config.input or config.feed or config.array)


def trusted(
    config: RunConfig, source: Source, trained: Graph, outputs: Sequence[Edge]
) -> WorkerGraph:
    """The trained graph as it's run for these outputs.

    Raises:
        GraphRefused: it can't be, or it would reach for files and the like that weren't allowed.
    """
    asking = config.model_copy(update={"input": "made:up"}) if _is_made_up(config) else config
    asked = fetch_graph(trained.meta, asking, [edge.tensor for edge in outputs])
    if asked.graph is None:
        first = asked.problems[0]
        raise GraphRefused(f"{source.meta.shown}: {first.message}", remedy=first.remedy)
    return asked.graph


def _places(graph: WorkerGraph, frozen: Frozen) -> dict[str, str]:
    return {port.name: frozen.inputs.get(port.name, port.tensor) for port in graph.inputs}
