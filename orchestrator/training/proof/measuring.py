"""Does a group that shares this graph's batches compute what one process with all rows computes?

Rule: tried, not argued. From the run's own state and its first batches one step is taken by the
slots, as a group takes it, and one by all rows in one batch; seams and variables are compared. Where
rows can't be joined, every slot is given the same batch. What differs is asked further: which
weighted sum of the slots' gradients it is, whether it goes through statistics that each batch takes
of itself, whether the order of the slots shows. Random operations are held still by whoever asks.
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
    Difference,
    different_seams,
    different_variables,
    noise_of,
    values_of,
)
from orchestrator.training.proof.describing import (
    described,
    excused,
    first_and_rest,
    is_finite,
)
from orchestrator.training.proof.joining import joint_batches, repeated
from orchestrator.training.proof.patterns import pattern_of, pooled
from orchestrator.training.proof.stand import Stand, Taken
from orchestrator.training.proof.statistics import computed_from, goes_through, statistics
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
                found = again if found is None or not again["differs"] else found
                if not again["differs"]:
                    break
        except FAILURES as error:
            reason = told(error)
        if found is None:
            return self._same_batch(reason)
        return self._asked_further(group, found) if found["differs"] else self._told("joint")

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
        return {"joint": joint, "differs": bool(seams or variables)}

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

    # -- what differs is asked further

    def _asked_further(self, group: Taken, found: Mapping[str, Any]) -> dict[str, Any]:
        joint: Taken = found["joint"]
        turned = self._take(next(joint_batches(self._batches[::-1], self._task.graph, self._held)))
        noise = noise_of(turned, joint, self._start.arrays)
        seams = different_seams(self._stand, group, joint, turned)
        variables = different_variables(group, joint, self._start.arrays, noise)
        if not seams and not variables:
            return self._told("joint")
        alone = [self._stand.step(self._start, [slot]) for slot in self._slots]
        through = self._through_statistics()
        found_seams = self._described(seams, joint, alone, through)
        if any(item["excused"] for item in found_seams):
            variables = self._of_the_order(group, noise)
        means = self._agreeing_means(seams)
        return self._told("joint", seams=found_seams, variables=variables, means=means)

    def _described(
        self,
        seams: Sequence[Difference],
        joint: Taken,
        alone: Sequence[Taken],
        through: Sequence[str],
    ) -> list[dict[str, Any]]:
        """Each seam with its pattern; all together can tell more than each alone."""
        values = {
            (item.run, item.seam.tensor): values_of(
                [each.seams[item.run, item.seam.tensor] for each in (joint, *alone)]
            )
            for item in seams
        }
        fit = {
            key: all(each.shape == found[0].shape for each in found)
            for key, found in values.items()
        }
        gradients = [
            values[item.run, item.seam.tensor]
            for item in seams
            if item.run == seams[0].run
            and item.seam.role == "gradient"
            and fit[item.run, item.seam.tensor]
        ]
        _, known = pattern_of(*first_and_rest(pooled(gradients))) if gradients else ("none", None)
        found: list[dict[str, Any]] = []
        for item in seams:
            whole, *slots = values[item.run, item.seam.tensor]
            is_fit = fit[item.run, item.seam.tensor]
            pattern, weights = pattern_of(whole, slots, known) if is_fit else ("none", None)
            trains = self._trains(item)
            is_excused = excused(item, pattern, is_fit, item.seam.tensor in through, trains)
            found.append(described(item, pattern, weights, is_excused, trains))
        return found

    def _trains(self, item: Difference) -> bool:
        """Whether an update moves weights by what is computed from them."""
        if item.seam.role != "update":
            return False
        weights = {variable.name for variable in self._task.graph.variables if variable.trainable}
        written = weights & set(item.seam.seam.scale.variables)
        tensor = self._stand.imported.get_tensor_by_name(item.seam.tensor)
        return computed_from(tensor, written)

    def _agreeing_means(self, seams: Sequence[Difference]) -> int:
        """Gradients of which the group takes the mean, and rightly."""
        differ = {item.seam.tensor for item in seams}
        every = [seam for each in self._stand.seams.values() for seam in each]
        return sum(
            seam.role == "gradient" and not seam.summed and seam.tensor not in differ
            for seam in every
        )

    def _through_statistics(self) -> list[str]:
        """The seams that statistics of each batch's own excuse: what a moving average takes up, and
        gradients computed from it that a repeated batch leaves as they are.
        """
        stand = self._stand
        every = [seam for each in stand.seams.values() for seam in each]
        tensor = stand.imported.get_tensor_by_name
        updates = [tensor(seam.tensor) for seam in every if seam.role == "update"]
        taken = statistics(updates)
        through = [seam.tensor for seam in every if goes_through(tensor(seam.tensor), taken)]
        if not through:
            return []
        first, count = self._batches[0], len(self._batches)
        one = stand.step(self._start, self._slots[:1])
        twice = self._take(repeated(first, count, self._task.graph, self._held))
        changed = {
            item.seam.tensor
            for item in different_seams(stand, twice, one, None, factor=count)
            if item.seam.role == "gradient"
        }
        return [name for name in through if name not in changed]

    def _of_the_order(self, group: Taken, noise: Mapping[str, float]) -> list[tuple[str, float]]:
        """Variables that show in which order the slots were taken: something beside the seams
        reached them.
        """
        other = self._stand.step(self._start, self._slots[::-1])
        return different_variables(group, other, self._start.arrays, noise)


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
