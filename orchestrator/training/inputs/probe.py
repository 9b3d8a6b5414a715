"""Does a graph's own input pipeline give a batch on this machine, with this TensorFlow?

Rule: only building and running it tells, and that takes TensorFlow, runs what the graph says and
may hang or crash. So it happens in a child process with a deadline, started by
``preflight``. It reads a pickled WorkerGraph and TrainingOptions from its standard input
and writes one JSON object: ``{"error": null}`` or ``{"error": "what went wrong"}``.
"""

from __future__ import annotations

import json
import pickle
import sys
from typing import Any

from orchestrator.errors import EndOfData, OrchestratorError
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.options import TrainingOptions


def first_batch_error(graph: WorkerGraph, options: TrainingOptions) -> str | None:
    """What goes wrong when one batch is pulled; None where nothing does."""
    from orchestrator.training.importing.import_graph import import_graph
    from orchestrator.training.inputs.live_inputs import LiveInputs

    try:
        inputs = LiveInputs(graph, import_graph(graph, options), options)
        try:
            inputs.pull()
        finally:
            inputs.close()
    except EndOfData:
        return "it gives no batch at all: its files are empty, or everything is filtered out"
    except OrchestratorError as error:
        return error.message
    return None


def main() -> None:
    """Answer the question that stands on the standard input."""
    answer = sys.stdout
    sys.stdout = sys.stderr  # what the graph and the user's functions print is no answer
    graph, options = _question(sys.stdin.buffer)
    answer.write(json.dumps({"error": first_batch_error(graph, options)}) + "\n")
    answer.flush()


def _question(stream: Any) -> tuple[WorkerGraph, TrainingOptions]:
    graph, options = pickle.load(stream)
    return graph, options


if __name__ == "__main__":
    main()
