"""What does the trained graph of a source give for some batches?

Rule: the same source, flags and inputs as ``resume``, nothing trained and nothing written but what
was asked for. What the fetched tensors execute is judged as strictly as what training executes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver.chosen_graph import graph_to_train
from orchestrator.driver.startup import step_of
from orchestrator.driver.tensorflow_process import ask_tensorflow
from orchestrator.errors import GraphRefused
from orchestrator.graph.fetching import fetch_graph
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inference.outputs import predictions
from orchestrator.store.checkpoints.source import named_source, resolve_source
from orchestrator.store.objects.private import scratch
from orchestrator.store.transfer.staging import stage
from orchestrator.training.engine.options import TrainingOptions

log = logging.getLogger("tfresume.infer")
TIMEOUT_S = 3600.0
"""Longest time for all batches: ``infer`` is for a look at some of them, and a process that hangs
must not stay for ever.
"""


def infer(
    config: RunConfig, fetches: Sequence[str], *, batches: int = 1
) -> list[dict[str, np.ndarray]]:
    """Fetch tensors for some batches.

    Args:
        config: ``source``, the inputs and what the graph needs count.
        fetches: tensor names, ``NAME`` or ``NAME:PORT``; none for what looks most like the model's
            prediction.
        batches: how many at most.

    Returns:
        For each batch the values by tensor name.

    Raises:
        GraphRefused: a tensor isn't there, has no feeds, or needs operations that weren't allowed.
        OrchestratorError: the source is bad, or a batch doesn't fit.
    """
    source = resolve_source(named_source(config))
    meta = graph_to_train(read_meta(source.meta_data, name=source.meta.shown), config)
    asked = fetch_graph(meta, config, fetches or [_prediction(meta, source.meta.shown)])
    if asked.graph is None:
        first, *more = asked.problems
        others = f" (and {len(more)} more)" if more else ""
        raise GraphRefused(
            f"{source.meta.shown}: {first.message}{others}",
            remedy=first.remedy,
            details={"problems": [asdict(problem) for problem in asked.problems]},
        )
    with scratch("infer") as room:
        task = {
            "graph": asked.graph,
            "options": TrainingOptions(
                import_modules=tuple(config.import_modules),
                load_op_library=tuple(config.load_op_library),
                py_func=dict(config.py_func),
            ),
            "config": config,
            "prefix": str(stage(source.files, room / "source")),
            "fetches": asked.fetches,
            "batches": batches,
            "step": step_of(source),
        }
        return _fetched(task, room)


def _prediction(meta: MetaGraphDef, shown: str) -> str:
    ranked = predictions(meta, shown)
    if not ranked:
        raise GraphRefused(
            f"{shown}: no tensor looks like a prediction", remedy="Name one with --fetch TENSOR"
        )
    log.info("%s is fetched: %s", ranked[0].name, ranked[0].why)
    return ranked[0].name


def _fetched(task: dict[str, Any], room: Path) -> list[dict[str, np.ndarray]]:
    answer = room / "answer.npz"
    ask_tensorflow("orchestrator.training.baseline.inference", task, answer, TIMEOUT_S)
    found: list[dict[str, np.ndarray]] = []
    with np.load(answer) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("|")
            while len(found) <= int(number):
                found.append({})
            found[int(number)][name] = arrays[key]
    return found
