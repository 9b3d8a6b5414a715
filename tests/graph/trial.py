"""What does the product make of a graph of the table?

Rule: with its own parts, as a run goes: the plan, the proof of the first step, then some steps of
two slots, beside plain TensorFlow that trains the graph as it was saved with all rows in one batch.
Random operations are held still, as in the proof. A result that differs counts as told where the
proof or a warning of ``check`` says so, and else as wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config import RunConfig
from orchestrator.driver.proof import Proof, judged, unproved
from orchestrator.driver.proving import why_not
from orchestrator.errors import OrchestratorError
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import GraphPlan, plan
from orchestrator.graph.random.deterministic import without_chance
from orchestrator.graph.worker_graph import WorkerGraph
from tests.graph.bare import train_original
from tests.graph.patterns import Batch, Found, Made, settings_of

STEPS = 3
TELLING = frozenset(
    {"averaged-update", "masked-loss", "nonlinear-loss", "mixed-loss", "unknown-loss-scale"}
)
"""Codes of the warnings that a group's result differs."""

_served: list[Batch] = []


def batches(context: Any) -> Iterator[Batch]:
    """The input function of the graph that is tried: its first step's batches."""
    yield from _served


@dataclass(frozen=True)
class Seen:
    """What became of it.

    Attributes:
        said: everything that an operator reads of it.
        unlike: variables that one process trains otherwise.
    """

    outcome: Found
    said: str
    unlike: frozenset[str] = frozenset()


def planned(made: Made, workers: int = 2, meta: Any = None, **more: Any) -> GraphPlan:
    """The plan of a group, or of one worker."""
    read = meta or read_meta(Path(f"{made.prefix}.meta").read_bytes(), name=made.pattern.name)
    words = settings_of(made, {"workers": workers, "input": "tests.graph.trial:batches", **more})
    return plan(read, RunConfig(**words))


def tried(made: Made, **more: Any) -> Seen:
    """Plan it, prove it and train it.

    Args:
        more: settings of the run.
    """
    from tensorflow.python.framework import config

    try:
        return _seen(made, more)
    finally:
        # Training in a group settles it for the process, which other tests share
        config.disable_op_determinism()


def _seen(made: Made, more: Mapping[str, Any]) -> Seen:
    found = planned(made, **more)
    said = [problem.message for problem in found.problems]
    if found.worker_graph is None:
        return Seen("refused", "\n".join(said))
    graph = _still(made, found.worker_graph, more)
    proof = _proved(made, graph, more)
    said.append(proof.told)
    try:
        ours, turned = _trained(made, graph, more)
    except OrchestratorError as error:
        return Seen("refused", "\n".join([*said, str(error)]))
    if turned:
        return Seen("wrong", "\n".join([*said, f"the slots' order shows in {turned}"]), turned)
    unlike = _unlike(ours, made, graph)
    if proof.verdict == "differs":
        return Seen("told", "\n".join(said), unlike)
    if not unlike:
        return Seen("equal", "\n".join(said))
    warned = any(problem.code in TELLING for problem in found.problems)
    return Seen("told" if warned else "wrong", "\n".join(said), unlike)


def _still(made: Made, graph: WorkerGraph, more: Mapping[str, Any]) -> WorkerGraph:
    if not (graph.random_nodes or graph.stateful_random):
        return graph
    from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

    still = without_chance(MetaGraphDef.FromString(graph.original_meta))
    assert not still.left, still.left
    again = planned(made, meta=still.meta, **more)
    assert again.worker_graph is not None, again.problems
    return again.worker_graph


def _options(more: Mapping[str, Any], slots: int) -> Any:
    from orchestrator.training.engine.options import TrainingOptions

    scale = more.get("gradient_scale", "auto")
    return TrainingOptions(batches_per_step=slots, gradient_scale=scale)


def _proved(made: Made, graph: WorkerGraph, more: Mapping[str, Any]) -> Proof:
    """As ``driver.proving`` does it, in this process."""
    from orchestrator.training.proof.measuring import FAILURES, Trial, TrialTask, told
    from orchestrator.training.proof.stand import Stand

    reason = why_not(graph)
    if reason:
        return unproved(reason)
    words = {"workers": 2, "input": "tests.graph.trial:batches", **more}
    config = RunConfig(**settings_of(made, words))
    task = TrialTask(graph, _options(more, 2), config, (), Path(), 0)
    _served[:] = made.parts(0)
    stand = Stand(graph, task.options)
    try:
        trial = Trial(task, stand, stand.load(str(made.prefix), init_missing=False))
        return judged(trial.answer(), config, batches_per_step=2)
    except FAILURES as error:
        return unproved(told(error))
    finally:
        stand.close()


def _trained(
    made: Made, graph: WorkerGraph, more: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], frozenset[str]]:
    """The variables after some steps, and those of one step in which the slots' order shows: some
    value reaches them beside the exchange, so ranks would drift apart.
    """
    from orchestrator.training.engine.options import GroupSpec
    from orchestrator.training.trainer import Trainer

    trainer = Trainer(graph, _options(more, 2))
    try:
        trainer.join(GroupSpec(1, 0, 1))
        start = trainer.load_checkpoint(str(made.prefix))
        trainer.assign(start)
        first: dict[str, np.ndarray] = {}
        for step in range(STEPS):
            trainer.step(made.parts(step))
            first = first or trainer.state().arrays
        ours = trainer.state().arrays
        trainer.assign(start)
        trainer.step(made.parts(0)[::-1])
        other = trainer.state().arrays
        local = {variable.name for variable in graph.variables if variable.local}
        return ours, frozenset(different(first, other, made.pattern.tolerance) - local)
    finally:
        trainer.close()


def _unlike(ours: Mapping[str, np.ndarray], made: Made, graph: WorkerGraph) -> frozenset[str]:
    joint = train_original(
        graph.original_meta, str(made.prefix), made.ops, STEPS, lambda step: made.joint(step)
    )
    return frozenset(
        name
        for name in different(joint, ours, made.pattern.tolerance)
        if not any(fnmatchcase(name, one) for one in made.pattern.apart)
    )


def different(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], tolerance: float
) -> set[str]:
    """Names of the variables of both that aren't nearly the same."""
    return {
        name
        for name, value in first.items()
        if name in second
        and not np.allclose(value, second[name], rtol=tolerance, atol=tolerance / 50)
    }
