"""How far is this worker in the training, and what do the runs of its next step take?

Rule: a step is one cycle of all train operations, nearly always a single one. The position grows
when the cycle is through, the phase with each run of it; the step is the graph's own counter
wherever it has one. Batches and keys of random numbers follow from these numbers alone, so that a
step that is taken again, by whomever, takes the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.state.session_rows import LiveRows
from orchestrator.training.state.snapshot import Snapshot
from orchestrator.training.state.state import State, StepOutput
from orchestrator.training.step.dealing import Dealing
from orchestrator.training.step.groups import Batch, Group, Shown, StepRun
from orchestrator.training.step.rng import batch_key, group_key


class Course:
    """One worker's way through the steps.

    Args:
        group: takes the runs.
        snapshot: reads the graph's own counter.

    Attributes:
        step: the last finished global step.
        phase: runs of the next step's cycle that are done already.
        position: batches that the whole group has consumed.
        share: rank and world size of which the rows of divided tables are; None where there are
            none.
    """

    def __init__(
        self,
        graph: WorkerGraph,
        options: TrainingOptions,
        group: Group,
        snapshot: Snapshot,
    ) -> None:
        self._graph, self._options, self._group = graph, options, group
        self._snapshot = snapshot
        self._cycle = graph.cycle
        self._dealing = Dealing(1, options.batches_per_step)
        self.step, self.phase, self.position = 0, 0, 0
        self.share: tuple[int, int] | None = (0, 1)

    @property
    def turns(self) -> tuple[int, ...]:
        """The numbers of this rank's batches in the next step."""
        spec = self._group.spec
        rank, slots = spec.rank if spec else 0, self._group.batches_per_step
        return tuple(
            number
            for draw in range(self._graph.batches_per_slot)
            for number in self._dealing.batches(rank, self.position + draw * slots)
        )

    def join(self, spec: GroupSpec) -> None:
        """The batches are dealt anew, among the members that ``group`` has now."""
        self._dealing = Dealing(spec.world_size, self._group.batches_per_step, spec.position)
        self.position = spec.position

    def set(self, state: State) -> None:
        """The session's variables are ``state`` now."""
        self.step, self.phase, self.share = state.step, state.phase, state.share

    def state_of(
        self,
        arrays: dict[str, np.ndarray],
        live: LiveRows | None = None,
        changed: Mapping[str, np.ndarray] | None = None,
    ) -> State:
        """The state of which these are the variables' values, by name, and ``live`` the others';
        ``changed`` as ``State`` has it.
        """
        counter = self._graph.step
        step = (
            self.step
            if counter is None or counter.variable not in arrays
            else int(arrays[counter.variable])
        )
        return State(step, arrays, self.phase, self.share, live=live, changed=changed)

    def take(self, batches: Sequence[Batch]) -> StepOutput:
        """One step, from the run at which its cycle stands. Raises what ``Group.run`` raises."""
        every = self._options.summary_steps
        summaries = bool(every) and (self._cycles + 1) % every == 0
        watched: dict[str, float] = {}
        shown: dict[str, float] = {}
        while True:
            more_watched, more_shown = self._run(batches, summaries)
            watched.update(more_watched)
            shown.update(more_shown)
            if self.phase == 0:
                self.position += self._consumed
                return StepOutput(self.step, watched, shown)

    def finish_run(self) -> None:
        """A run of the cycle has been applied here."""
        self.phase = (self.phase + 1) % len(self._cycle)
        counter = self._graph.step
        if counter is None:
            self.step += self.phase == 0
        elif counter.increment is not None and len(self._cycle) == 1:
            self.step += counter.increment
        else:
            # What a run adds isn't a constant, or not every run of the cycle adds to it
            read = self._snapshot.read(self._group.session, [counter.variable])
            self.step = int(read[counter.variable])

    @property
    def _consumed(self) -> int:
        """Batches that the whole group takes in one step."""
        return self._group.batches_per_step * self._graph.batches_per_slot

    @property
    def _cycles(self) -> int:
        """Steps of the group since the run's start, whatever the graph's own counter says."""
        return self.position // self._consumed

    def _run(self, batches: Sequence[Batch], summaries: bool) -> Shown:
        slots = self._group.batches_per_step
        first = self.position + self._graph.run_batches[self.phase] * slots
        own = [batch for batch in batches if first <= batch.number < first + slots]
        run = StepRun(
            self._cycle[self.phase],
            self.phase,
            self.position,
            first,
            self.step,
            tuple(map(self._keyed, own)),
            summaries,
        )
        result = self._group.run(run, self._group_keys())
        self.finish_run()
        return result

    def _keyed(self, batch: Batch) -> Batch:
        if self._graph.rng_feed is None:
            return batch
        key = batch_key(self._options.seed, batch.number, self.phase)
        return Batch(batch.number, {**batch.feeds, self._graph.rng_feed: key})

    def _group_keys(self) -> dict[str, np.ndarray]:
        feed = self._graph.group_rng_feed
        if feed is None:
            return {}
        # The step alone would give a counter that stands still the same numbers again
        return {feed: group_key(self._options.seed, self.step, self._cycles, self.phase)}
