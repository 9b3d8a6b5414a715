"""Will a run start, its graph's own input pipelines included?

Rule: what ``graph.check`` finds in the graph, then whether the files are there, then whether the
pipelines give a batch: each only where nothing before it refused the run, and the last two only
where the workers run on this machine. No TensorFlow in this process.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError, CorruptCheckpoint
from orchestrator.graph.check import CheckReport, check
from orchestrator.graph.inputs.diagnosis import Outside
from orchestrator.graph.inputs.path_map import is_url
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.graph.problem import Problem
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.graph.variables.memory import FreeMemory
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.inputs.arrays import open_arrays
from orchestrator.training.inputs.constant_feeds import constant_feeds
from orchestrator.training.inputs.files import FilesSeen

BATCH_WITHIN_S = 120.0
"""A pipeline that shuffles a large buffer of remote files may need a minute before its first batch.
"""


def preflight(
    meta: MetaGraphDef,
    config: RunConfig,
    *,
    checkpoint: CheckpointKeys | None = None,
    memory: FreeMemory | None = None,
    also: Sequence[Problem] = (),
    batch_within_s: float = BATCH_WITHIN_S,
    loading: Loading = AS_SAVED,
) -> CheckReport:
    """``graph.check`` with what can be found out on this machine.

    Args:
        checkpoint, memory, also, loading: as ``check`` takes them.
        batch_within_s: deadline for the first batch of the graph's own pipelines.
    """
    here = config.address is None
    seen = FilesSeen(config.path_map.values())

    def judged(also: Sequence[Problem], outside: Outside) -> CheckReport:
        return check(
            *(meta, config),
            checkpoint=checkpoint,
            memory=memory,
            also=also,
            outside=outside,
            loading=loading,
        )

    outside = Outside(missing=seen.missing, unreachable=seen.unreachable) if here else Outside()
    report = judged(also, outside)
    graph = report.plan.worker_graph
    is_named = not any(problem.code == "unknown-tensor" for problem in report.problems)
    unfit = unfit_values(config, graph) if graph is not None and is_named else ()
    if unfit:
        return judged((*also, *unfit), outside)
    if not here or graph is None or not report.resumes or not makes_batches(graph):
        return report
    errors = unbuildable(graph, config, batch_within_s)
    return judged(also, replace(outside, unbuildable=errors)) if errors else report


def unfit_values(config: RunConfig, graph: WorkerGraph) -> tuple[Problem, ...]:
    """What the workers would refuse of the values that are supplied: asked of what the workers
    themselves ask.

    Arrays in files of other machines can't be looked at from here.
    """
    problems = []
    try:
        constant_feeds(config.feed, graph)
    except ConfigError as error:
        problems.append(Problem("unfit-feed", "error", error.message, error.remedy))
    arrays = {
        name: url for name, url in config.array.items() if config.address is None or is_url(url)
    }
    try:
        if arrays:
            open_arrays(arrays, graph, batch_size=config.batch_size)
    except (ConfigError, CorruptCheckpoint) as error:
        problems.append(Problem("unfit-array", "error", error.message, error.remedy))
    return tuple(problems)


def makes_batches(graph: WorkerGraph) -> bool:
    """Whether the graph's own pipelines supply inputs of the run."""
    return any(port.pull is not None for port in graph.inputs)


def unbuildable(
    graph: WorkerGraph, config: RunConfig, within_s: float = BATCH_WITHIN_S
) -> Mapping[str, str]:
    """Pipeline to what went wrong when a child process asked it for a batch; empty where all give
    one.
    """
    options = TrainingOptions(
        seed=config.seed,
        import_modules=tuple(config.import_modules),
        load_op_library=tuple(config.load_op_library),
        py_func=dict(config.py_func),
    )
    error = _ask(pickle.dumps((graph, options)), within_s)
    if error is None:
        return {}
    names = [
        *(pipeline.name for pipeline in graph.pipelines),
        *(queue.name for queue in graph.queues),
    ]
    return {name: error for name in names if len(names) == 1 or name in error} or dict.fromkeys(
        names, error
    )


def _ask(question: bytes, within_s: float) -> str | None:
    child = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.training.inputs.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        said, errors = child.communicate(question, timeout=within_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return f"it gave no batch within {within_s:.0f} s"
    if child.returncode:
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        return f"the process that tried it died with code {child.returncode}: {lines[-1] if lines else 'without a word'}"
    answer: str | None = json.loads(said.splitlines()[-1])["error"]
    return answer
