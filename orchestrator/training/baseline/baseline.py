"""What would one bare process have made of the same batches, and how far is a run's checkpoint from
that?

Rule: two baselines. One is a single process that takes the same slots one after another, without
Ray, without a group and without an exchange: a group ends with its very bytes. The other is
TensorFlow with nothing of ours in its graph (the source's own graph, its own saver, plain
``session.run``) that is fed the slots' batches joined into one: a group ends where it does, to
rounding. Runs in a process of its own: ``python -m orchestrator.training.baseline.baseline TASK
ANSWER``.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import OrchestratorError
from orchestrator.graph.inputs.feed_plan import constants
from orchestrator.graph.variables.fit import is_optimizer_state
from orchestrator.training.baseline.dealt_batches import ComparisonTask, Steps, dealt, stray
from orchestrator.training.baseline.distances import Distance, distances
from orchestrator.training.baseline.joint_batch import joined
from orchestrator.training.baseline.plain_import import import_plain, restore_plain
from orchestrator.training.engine.options import GroupSpec
from orchestrator.training.engine.tensorflow import tf, v1
from orchestrator.training.importing.import_graph import load_extensions
from orchestrator.training.inputs.feeds import FeedContext, open_batches
from orchestrator.training.state.checkpoint_reader import read_checkpoint
from orchestrator.training.step.groups import RUN_ERRORS
from orchestrator.training.trainer import Trainer

Arrays = Mapping[str, np.ndarray]
"""Variable to value."""


def measure(task: ComparisonTask) -> dict[str, Any]:
    """The distances between the group's run and the baselines, and between it and the interrupted
    run.

    Returns:
        ``slots``, ``bare`` and ``save``: lists of distances, largest first, or None where it wasn't
        compared; ``moved``: how many variables the steps changed; ``reason``: why the joined batch
        couldn't be compared; ``shares``: variable to how far (relative) training on one slot's
        batches alone brings it from the joined batch, where that and the group differ; ``redrawn``:
        variable to how far other random numbers bring it; ``input``: which batch isn't the same for
        every number of workers, else empty.

    Raises:
        OrchestratorError: a checkpoint or the graph can't be read.
    """
    start = read_checkpoint(task.graph, task.prefix, task.options)
    before = start.arrays
    # An optimizer's state begins anew from constants, on both sides alike; what else the checkpoint
    # lacks begins from random numbers
    lacking = [
        variable.name
        for variable in start.missing
        if variable.needed and not is_optimizer_state(variable)
    ]
    whole = read_checkpoint(task.graph, task.whole, task.options).arrays
    halves = read_checkpoint(task.graph, task.halves, task.options).arrays if task.halves else None
    steps = dealt(task, task.world_size) if task.joint else None
    # Before the slots: their process draws no random numbers without a seed, and bare TensorFlow
    # may
    slots = task.options.batches_per_step
    bare, reason = (None, "") if steps is None else _joint(task, steps, slots)
    if lacking and bare is not None:
        bare, reason = (
            None,
            f"the checkpoint lacks {lacking[0]}, which plain TensorFlow starts from random numbers of its own",
        )
    apart = [] if bare is None else distances(bare, whole, before, task.steps)
    differs = any(item.relative > task.tolerance for item in apart)
    shared = steps is not None and bare is not None and differs and slots > 1
    shares, turned = {}, {}
    if shared and steps is not None and bare is not None:
        shares = _shares(task, steps, bare, before)
        turned = _turned(task, steps, bare, before)
    alone = train_slots(task, steps)
    return {
        "slots": [asdict(item) for item in distances(alone, whole, before, 0)],
        "bare": None if bare is None else [asdict(item) for item in apart],
        "shares": shares,
        "turned": turned,
        "redrawn": _redrawn(task, steps, alone, before) if task.redraw else {},
        "save": None
        if halves is None
        else [asdict(item) for item in distances(halves, whole, before, 0)],
        "moved": sum(item.relative > 0 for item in distances(before, whole, before, 0)),
        "reason": reason,
        "input": "" if steps is None else stray(task, steps),
    }


def _joint(task: ComparisonTask, steps: Steps, slots: int) -> tuple[Arrays | None, str]:
    """What the joined batches make of the variables, or why plain TensorFlow can't train on them."""
    try:
        return train_bare(task, steps, slots), ""
    except OrchestratorError as error:
        return None, error.message
    except RUN_ERRORS as error:
        told = " ".join(str(getattr(error, "message", error)).split())
        return None, f"one process can't take the workers' batches joined into one: {told}"


def _shares(task: ComparisonTask, steps: Steps, bare: Arrays, before: Arrays) -> dict[str, float]:
    found: dict[str, float] = {}
    for slot in range(task.options.batches_per_step):
        alone, _ = _joint(task, [step[slot :: task.options.batches_per_step] for step in steps], 1)
        if alone is not None:
            _widen(found, distances(alone, bare, before, task.steps))
    return found


def _turned(task: ComparisonTask, steps: Steps, bare: Arrays, before: Arrays) -> dict[str, float]:
    """How far the order of the rows alone moves each variable, the slots' batches joined the other
    way round.
    """
    slots = task.options.batches_per_step
    other = [
        [
            batch
            for first in range(0, len(step), slots)
            for batch in reversed(step[first : first + slots])
        ]
        for step in steps
    ]
    alike, _ = _joint(task, other, slots)
    found: dict[str, float] = {}
    if alike is not None:
        _widen(found, distances(alike, bare, before, task.steps))
    return found


def _redrawn(
    task: ComparisonTask, steps: Steps | None, alone: Arrays, before: Arrays
) -> dict[str, float]:
    found: dict[str, float] = {}
    # Several, since one may come out near by luck; each costs as much as the run of the slots
    for seed in (1, 2, 3, 4):
        other = replace(task, options=replace(task.options, seed=task.options.seed + seed))
        _widen(found, distances(train_slots(other, steps), alone, before, task.steps))
    return found


def _widen(bounds: dict[str, float], measured: Sequence[Distance]) -> None:
    for item in measured:
        bounds[item.name] = max(item.relative, bounds.get(item.name, 0.0))


# -- the baselines


def train_slots(task: ComparisonTask, steps: Steps | None) -> Arrays:
    """The variables after the steps of one process that takes all slots, by node name.

    Args:
        steps: None where the graph's own pipeline makes the batches.

    Raises:
        OrchestratorError: as in a worker.
    """
    trainer = Trainer(task.graph, task.options)
    try:
        trainer.join(GroupSpec(1, 0, 1))
        trainer.assign(trainer.load_checkpoint(task.prefix, init_missing=task.config.init_missing))
        if steps is None:
            stream = open_batches(
                task.config, task.graph, FeedContext(0, 1, task.start_step, 0), trainer
            )
        for number in range(task.steps):
            trainer.step(stream.take(len(trainer.turns)) if steps is None else steps[number])
            if steps is None:
                stream.applied()
        return trainer.state().arrays
    finally:
        trainer.close()


def train_bare(task: ComparisonTask, steps: Steps, slots: int) -> Arrays:
    """The variables after the steps of a TensorFlow process that is fed all batches of a run as
    one, by node name.

    Args:
        slots: batches that one run takes.

    Raises:
        ConfigError: the batches can't be joined into one.
        GraphMismatch: plain TensorFlow can't import or restore the source.
    """
    load_extensions(task.graph, task.options)
    # One thread: the order in which TensorFlow's kernels add up isn't by chance then
    settings = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default() as graph, v1.Session(graph=graph, config=settings) as session:
        places = import_plain(task.graph, task.config.input_map)
        restore_plain(session, task.graph, task.prefix)
        for step in steps:
            for number, draw in zip(task.graph.cycle, task.graph.run_batches, strict=True):
                own = step[draw * slots : (draw + 1) * slots]
                whole = joined(own, task.graph, constants(task.config))
                batch = {places.get(name, name): value for name, value in whole.items()}
                session.run(graph.get_operation_by_name(task.graph.targets[number].op), batch)
        variables = {variable.op.name: variable for variable in v1.global_variables()}
        values: Arrays = session.run(variables)
    return values


def main(task_path: str, answer_path: str) -> int:
    """Read the task, write the answer or the error as JSON."""
    # written by our own parent a moment ago
    task = ComparisonTask(**pickle.loads(Path(task_path).read_bytes()))
    try:
        answer = measure(task)
    except OrchestratorError as error:
        answer = {"error": error.as_dict()}
    Path(answer_path).write_text(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
