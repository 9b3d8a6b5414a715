"""Does a group that shares this graph's batches compute what one process with all rows computes?

Rule: tried, not argued. From the run's own state and its first batches one step is taken by the
slots, as a group takes it, and one by all rows in one batch; seams and variables are compared. Where
rows can't be joined, every slot is given the same batch. What differs is asked further
(``inquiry``). Random operations are held still by whoever asks.
Runs in a process of its own: ``python -m orchestrator.training.proof.measuring TASK ANSWER [PID]``.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config import RunConfig
from orchestrator.errors import EndOfData, OrchestratorError, UserCodeError
from orchestrator.graph.inputs.feed_plan import constants
from orchestrator.graph.worker_graph import SparseSeam, WorkerGraph
from orchestrator.lifetimes import end_with
from orchestrator.store.transfer.staging import stage
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.inputs.feeds import FeedContext, open_batches
from orchestrator.training.proof.comparing import (
    different_seams,
    different_variables,
)
from orchestrator.training.proof.describing import (
    described,
    is_finite,
)
from orchestrator.training.proof.inquiry import Inquiry
from orchestrator.training.proof.joining import joint_batches
from orchestrator.training.proof.stand import Stand, Taken
from orchestrator.training.state.state import State
from orchestrator.training.step.groups import RUN_ERRORS

FAILURES = (OrchestratorError, MemoryError, *RUN_ERRORS)
Batches = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class TrialTask:
    """What is to be tried.

    Attributes:
        graph: cut, its random operations held still.
        options: as the workers have them; ``batches_per_step`` slots are tried.
        files: of the checkpoint that the run starts from (``store`` FileInfo).
        cache: directory to stage them in.
        step: the global step that the first batches belong to.
    """

    graph: WorkerGraph
    options: TrainingOptions
    config: RunConfig
    files: Sequence[Any]
    cache: Path
    step: int


def measure(task: TrialTask) -> dict[str, Any]:
    """What the trial showed, as plain data.

    Returns:
        ``how``: ``joint``, ``same batch`` or ``none``; ``reason``: why not better; ``seams`` and
        ``variables``: what differs; ``means``: gradients of which the mean is right; ``compared``:
        how many seams and variables; ``slots``: how many were tried; ``apart``: fed tensors that
        differ by batch, and the variables that workers would make differ by them.

    Raises:
        OrchestratorError, or what TensorFlow raises: the slots' own step can't be taken.
    """
    prefix = str(stage(task.files, task.cache))
    stand = Stand(task.graph, task.options)
    try:
        trial = Trial(task, stand, stand.load(prefix, init_missing=task.config.init_missing))
        return trial.answer()
    finally:
        stand.close()


class Trial:
    """One graph, one state, one step's batches."""

    def __init__(self, task: TrialTask, stand: Stand, start: State) -> None:
        self._task, self._stand, self._start = task, stand, start
        self._held = constants(task.config)
        stream = open_batches(task.config, task.graph, FeedContext(0, 1, task.step, 0))
        try:
            self._batches: Batches = stream.take(task.options.batches_per_step)
        finally:
            stream.close()
        self._slots = [stand.checked(batch) for batch in self._batches]

    def answer(self) -> dict[str, Any]:
        """See ``measure``."""
        group = self._stand.step(self._start, self._slots)
        # First: where workers would differ from each other, no joint batch can be right
        apart = self._apart(group)
        if apart:
            return self._told("joint", apart=apart)
        found, reason = None, ""
        try:
            for whole in joint_batches(self._batches, self._task.graph, self._held):
                try:
                    again = self._compared(group, whole)
                except FAILURES as error:
                    reason = reason or told(error)
                    continue
                # The usual way of joining is asked further, unless another one agrees
                found = again if found is None or not again["differs"] else found
                if not again["differs"]:
                    break
        except FAILURES as error:
            reason = told(error)
        if found is None:  # no way of joining gave a step
            return self._same_batch(reason)
        if not found["differs"]:
            return self._told("joint")
        inquiry = Inquiry(
            self._task.graph, self._stand, self._start, self._batches, self._slots, self._held
        )
        return self._told("joint", **inquiry.of(group, found["joint"], found["whole"]))

    def _apart(self, group: Taken) -> list[list[str]]:
        """The fed settings that aren't the same in all slots, and the variables in which workers
        would differ because each applies what it's fed itself; empty where there are none.
        """
        ports = {port.tensor for port in self._task.graph.inputs}
        unlike = [
            name
            for name, first in self._slots[0].items()
            if (first.ndim == 0 or name not in ports)
            and any(not _same(first, slot[name]) for slot in self._slots[1:])
        ]
        if not unlike:
            return []
        # Each worker feeds a batch of its own where the result is applied; ``group`` fed the last
        other = self._stand.step(self._start, self._slots, applied=0)
        differing = [
            name
            for name, value in group.variables.items()
            if not _same(value, other.variables[name])
        ]
        return [unlike, differing] if differing else []

    def _compared(self, group: Taken, whole: Mapping[str, np.ndarray]) -> dict[str, Any]:
        joint = self._take(whole)
        if not is_finite(joint):
            raise UserCodeError("gradients of the first batches, all rows in one, aren't finite")
        seams = different_seams(self._stand, group, joint, None)
        variables = different_variables(group, joint, self._start.arrays, {})
        return {"joint": joint, "whole": whole, "differs": bool(seams or variables)}

    def _take(self, batch: Mapping[str, Any]) -> Taken:
        return self._stand.step(self._start, [self._stand.checked(batch)])

    def _told(self, how: str, **more: Any) -> dict[str, Any]:
        seams = sum(len(self._stand.seams[target]) for target in self._stand.cycle)
        found = {"how": how, "reason": "", "seams": [], "variables": [], "means": 0, "apart": []}
        counted = {"slots": len(self._slots), "compared": [seams, len(self._start.arrays)]}
        return {**found, **counted, **more}

    # -- all slots the same batch

    def _same_batch(self, reason: str) -> dict[str, Any]:
        count = len(self._slots)
        group = self._stand.step(self._start, [self._slots[0]] * count)
        one = self._stand.step(self._start, self._slots[:1])
        seams = different_seams(self._stand, group, one, None, factor=count)
        # Sums aren't one batch's, and old optimizers square each row of a table by itself, however
        # many there are of one index
        every = [seam for each in self._stand.seams.values() for seam in each]
        others = any(seam.summed or isinstance(seam.seam, SparseSeam) for seam in every)
        variables = [] if others else different_variables(group, one, self._start.arrays, {})
        told = [described(item, "none", None, False) for item in seams]
        return self._told("same batch", reason=reason, seams=told, variables=variables)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def told(error: BaseException) -> str:
    """What an error says, in one line."""
    text = " ".join(str(getattr(error, "message", error)).split())
    return text or type(error).__name__


def main(task_path: str, answer_path: str, asker: str = "") -> int:
    """Read the task, write the answer.

    Args:
        asker: the process that waits for it, where this one is to end with it: nobody wants the
            answer then, and what the user's code waits for may never come.
    """
    if asker:
        end_with(int(asker))
    # written by our own parent a moment ago
    task = TrialTask(**pickle.loads(Path(task_path).read_bytes()))
    try:
        answer = measure(task)
    except EndOfData:
        answer = {"how": "none", "reason": "the input ends before its first step has all batches"}
    except FAILURES as error:
        answer = {"how": "none", "reason": told(error)}
    Path(answer_path).write_text(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
