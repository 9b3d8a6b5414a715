"""How are tensors of a checkpoint fetched for batches, by whoever asks?

Rule: one engine for ``infer`` and ``evaluate``. What the fetched tensors execute is judged as
strictly as what training executes. TensorFlow runs in processes of its own: one on this machine, or
one for each of several workers on Ray (``spread``); each serves its rank's batches as in a run, so
that the answers, in the order of the batches, are those of one worker.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.decide.evaluating import tensor_name
from orchestrator.driver.chosen_graph import graph_to_train
from orchestrator.driver.startup import step_of
from orchestrator.driver.tensorflow_process import ask_tensorflow
from orchestrator.errors import ConfigError, GraphRefused
from orchestrator.graph.fetching import FetchPlan, fetch_graph
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inference.outputs import predictions
from orchestrator.store.checkpoints.source import Source
from orchestrator.store.objects.private import scratch
from orchestrator.store.transfer.staging import stage
from orchestrator.training.engine.options import TrainingOptions

log = logging.getLogger("tfresume")
TIMEOUT_S = 6 * 3600.0
"""Longest time for all batches: a process that hangs must not stay for ever."""


@dataclass(frozen=True)
class BatchValues:
    """The fetched values of one batch.

    Attributes:
        number: of the batch, from 0.
        rows: rows of the batch, 0 where its arrays have none in common.
        values: tensor name to its value, or its mean (float64 ``[]``) where that was asked for.
    """

    number: int
    rows: int
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class NodeWish:
    """Where on a cluster the TensorFlow processes are put.

    Attributes:
        resources: custom Ray resources that each takes, by name.
        labels: Ray node labels that their nodes have.
    """

    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


ANYWHERE = NodeWish()


def fetch_plan(
    source: Source,
    config: RunConfig,
    fetches: Sequence[str],
    *,
    losses_first: bool = False,
    besides: Sequence[str] = (),
) -> FetchPlan:
    """What it takes to fetch tensors of a source's graph.

    Args:
        fetches: tensor names; none for what looks most like the model's prediction.
        losses_first: without names the graph's losses where it has some.
        besides: more names, which stand for no default but the prediction.

    Raises:
        GraphRefused: a tensor isn't there, has no feeds, or needs operations that weren't allowed.
    """
    meta = graph_to_train(read_meta(source.meta_data, name=source.meta.shown), config)
    names = list(fetches) or (_losses(meta) if losses_first else [])
    there = {tensor_name(name) for name in names}
    names += [name for name in besides if tensor_name(name) not in there]
    asked = fetch_graph(meta, config, names or [_prediction(meta, source.meta.shown)])
    if asked.graph is None:
        first, *more = asked.problems
        others = f" (and {len(more)} more)" if more else ""
        raise GraphRefused(
            f"{source.meta.shown}: {first.message}{others}",
            remedy=first.remedy,
            details={"problems": [asdict(problem) for problem in asked.problems]},
        )
    return asked


def _losses(meta: MetaGraphDef) -> list[str]:
    """The tensors in the collection of losses, regularisation among them."""
    held = meta.collection_def["losses"].node_list.value if "losses" in meta.collection_def else ()
    return list(dict.fromkeys(held))


def _prediction(meta: MetaGraphDef, shown: str) -> str:
    ranked = predictions(meta, shown)
    if not ranked:
        raise GraphRefused(
            f"{shown}: no tensor looks like a prediction", remedy="Name one with --fetch TENSOR"
        )
    log.info("%s is fetched: %s", ranked[0].name, ranked[0].why)
    return ranked[0].name


def fetched(
    source: Source,
    config: RunConfig,
    plan: FetchPlan,
    *,
    batches: int,
    means: bool = False,
    place: NodeWish = ANYWHERE,
) -> list[BatchValues]:
    """The outputs of the first ``batches`` batches (0: of all), in the order of the batches.

    Args:
        config: ``workers.count`` processes share the batches; with ``address`` they are on that
            cluster, with several and no ``address`` on a local Ray.
        means: of each tensor only the mean over its elements.
        place: on a cluster.

    Raises:
        ConfigError: ``batches`` is negative.
        OrchestratorError: the checkpoint is bad, a batch doesn't fit, or no process could run.
    """
    check_batches(batches)
    count = config.workers.count
    tasks = [
        {
            "graph": plan.graph,
            "options": TrainingOptions(
                import_modules=tuple(config.import_modules),
                load_op_library=tuple(config.load_op_library),
                py_func=dict(config.py_func),
            ),
            "config": config,
            "fetches": plan.fetches,
            "batches": batches,
            "step": step_of(source),
            "rank": rank,
            "world_size": count,
            "means": means,
        }
        for rank in range(count)
    ]
    if not needs_ray(config):
        return asked_here(tasks[0], source.files)
    from orchestrator.driver.spread import asked_of_ray

    return in_order(
        output for found in asked_of_ray(tasks, source.files, config, place) for output in found
    )


def check_batches(batches: int) -> None:
    """Whether so many can be asked for. Raises ConfigError."""
    if batches < 0:
        raise ConfigError(
            f"--batches is {batches}", remedy="Give how many, or 0 for all until the input ends"
        )


def needs_ray(config: RunConfig) -> bool:
    """Whether the batches are fetched by workers on Ray."""
    return config.address is not None or config.workers.count > 1


def asked_here(
    task: Mapping[str, Any], files: Sequence[Any], cache: Path | None = None
) -> list[BatchValues]:
    """The answer of a process of this machine.

    Args:
        task: the fields of ``InferenceTask`` but for ``prefix``.
        files: of the checkpoint, brought to this machine first.
        cache: where they stay for others of this machine; None keeps them no longer than needed.
    """
    with scratch("infer") as room:
        prefix = str(stage(files, cache or room / "source"))
        answer = room / "answer.npz"
        ask_tensorflow(
            "orchestrator.training.baseline.inference",
            {**task, "prefix": prefix},
            answer,
            TIMEOUT_S,
            str(os.getpid()),
        )
        return _read(answer)


def _read(answer: Path) -> list[BatchValues]:
    values: dict[int, dict[str, np.ndarray]] = {}
    with np.load(answer) as arrays:
        for key in arrays.files:
            number, bar, name = key.partition("|")
            if bar:
                values.setdefault(int(number), {})[name] = arrays[key]
        return [
            BatchValues(int(n), int(rows), values.get(int(n), {})) for n, rows in arrays["rows"]
        ]


def in_order(outputs: Iterable[BatchValues]) -> list[BatchValues]:
    """The outputs of several ranks as one worker would have given them: by number, up to the first
    batch that nobody had.
    """
    found: list[BatchValues] = []
    for output in sorted(outputs, key=lambda each: each.number):
        if output.number != len(found):
            break
        found.append(output)
    return found
