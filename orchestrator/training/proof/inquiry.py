"""What is behind a difference between a group's step and one process' with all rows?

Rule: asked by further steps from the same state. Which weighted sum of the slots' gradients the
joint batch's is, whether it goes through statistics that each batch takes of itself, and whether
the order of the slots shows. What the joint batch's own order of rows changes is noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from orchestrator.graph.worker_graph import WorkerGraph
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
)
from orchestrator.training.proof.joining import joint_batches, repeated
from orchestrator.training.proof.patterns import pattern_of, pooled
from orchestrator.training.proof.stand import Stand, Taken
from orchestrator.training.proof.statistics import computed_from, goes_through, statistics
from orchestrator.training.state.state import State


class Inquiry:
    """One graph, one state and one step's batches, of which the joint step differs.

    Args:
        graph: what the trial trains.
        start: the state before the step.
        batches, slots: one batch for each slot, as they were given and as they are fed.
        held: names of the tensors that are fed alike for the whole run.
    """

    def __init__(
        self,
        graph: WorkerGraph,
        stand: Stand,
        start: State,
        batches: Sequence[Mapping[str, Any]],
        slots: Sequence[Mapping[str, np.ndarray]],
        held: AbstractSet[str],
    ) -> None:
        self._graph, self._stand, self._start = graph, stand, start
        self._batches, self._slots, self._held = batches, slots, held

    def of(self, group: Taken, joint: Taken, whole: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``seams``, ``variables`` and ``means`` as ``measuring.measure`` gives them; empty where all
        that differs is noise.

        Args:
            joint, whole: the step of one process, and the batch of all rows that it took.
        """
        # What the same rows in another order change is rounding, or the graph minds the order
        turned = self._take(next(joint_batches(self._batches[::-1], self._graph, self._held)))
        noise = noise_of(turned, joint, self._start.arrays)
        seams = different_seams(self._stand, group, joint, turned)
        variables = different_variables(group, joint, self._start.arrays, noise)
        if variables and not seams:
            variables = self._beside_the_seams(joint, whole, variables)
        if not seams and not variables:
            return {}
        alone = [self._stand.step(self._start, [slot]) for slot in self._slots]
        through = self._through_statistics()
        found_seams = self._described(seams, joint, alone, through)
        # An excused seam explains that variables differ from the joint step's; what reaches them
        # beside the seams shows in the order of the slots
        if any(item["excused"] for item in found_seams):
            variables = self._of_the_order(group, noise)
        means = self._agreeing_means(seams)
        return {"seams": found_seams, "variables": variables, "means": means}

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
        # Of one run alone: another one of the cycle has batches, a loss and weights of its own
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
        weights = {variable.name for variable in self._graph.variables if variable.trainable}
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
        # A batch that is repeated has the statistics that it has alone, so a gradient that differs
        # then differs for another reason
        one = stand.step(self._start, self._slots[:1])
        twice = self._take(repeated(first, count, self._graph, self._held))
        changed = {
            item.seam.tensor
            for item in different_seams(stand, twice, one, None, factor=count)
            if item.seam.role == "gradient"
        }
        return [name for name in through if name not in changed]

    def _beside_the_seams(
        self,
        joint: Taken,
        whole: Mapping[str, np.ndarray],
        variables: Sequence[tuple[str, float]],
    ) -> list[tuple[str, float]]:
        """Those of ``variables`` that differ though the group had the joint step's own values at its
        seams.

        The others differ by how seams were rounded: a gradient that is nothing but rounding (that
        of a bias which cancels out of a distance, say) is scaled to a whole step by Adam, and comes
        out otherwise with every order of the sums, and on every kind of processor.
        """
        checked = self._stand.checked(whole)
        crossed = self._stand.step(self._start, [checked], applied_batch=self._slots[-1])
        beside = {name for name, _ in different_variables(crossed, joint, self._start.arrays, {})}
        return [item for item in variables if item[0] in beside]

    def _of_the_order(self, group: Taken, noise: Mapping[str, float]) -> list[tuple[str, float]]:
        """Variables that show in which order the slots were taken: something beside the seams
        reached them.
        """
        other = self._stand.step(self._start, self._slots[::-1])
        return different_variables(group, other, self._start.arrays, noise)

    def _take(self, batch: Mapping[str, Any]) -> Taken:
        return self._stand.step(self._start, [self._stand.checked(batch)])
