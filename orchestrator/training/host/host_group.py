"""How does a group take a step outside of TensorFlow?

Rule: compute, exchange, apply. Computing writes nothing, and a rank applies only when it holds the
whole result, so a step happens on all ranks or on none. What was computed for a step that broke is
kept (``kept_work``): in the next group only the slots of those who are gone are computed again, and
since the order of summation follows the slots, with the same bits. A rank that was cut off when its
peers had the result already takes that from one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.errors import GraphRefused
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.group.collectives import Collectives
from orchestrator.training.group.summation import Accumulator
from orchestrator.training.host.combining import combined
from orchestrator.training.host.contribution import Contribution
from orchestrator.training.host.kept_work import BegunRun, KeptWork
from orchestrator.training.host.phases import Computed, Phases
from orchestrator.training.host.seams import Level, Seams
from orchestrator.training.host.table_rows import TableRows
from orchestrator.training.state.state import State
from orchestrator.training.state.written_rows import written_rows
from orchestrator.training.step.dealing import Dealing
from orchestrator.training.step.groups import (
    RUN_ERRORS,
    Batch,
    InGraph,
    Shown,
    StepRun,
    graph_error,
)
from orchestrator.training.step.meeting import Meeting
from orchestrator.training.step.step_clock import StepClock
from orchestrator.training.step.stepping import StepRunner

ROUNDS = 64
"""More than a target has rounds: tells the buffers of two targets apart."""


class HostGroup:
    """Membership in one group after another, and steps in host memory; see ``groups.Group``.

    Args:
        graph: the train operations with their seams.
        imported: the imported TensorFlow graph; it is cut here.
        runner: knows what each operation shows.
        writing: held while variables are written.
    """

    keeps_variables = True

    def __init__(
        self,
        graph: WorkerGraph,
        imported: Any,
        options: TrainingOptions,
        runner: StepRunner,
        secret: bytes,
        writing: Any,
    ) -> None:
        self._imported, self._options = imported, options
        self._runner, self._writing = runner, writing
        self.written = written_rows(graph) if options.changed_rows else None
        seams = Seams(imported, graph.targets, options.gradient_scale, graph.weight)
        self._phases = Phases(graph, seams, runner.shown, self.written)
        self._meeting = Meeting(options.host, secret)
        self._session: LiveSession | None = None
        self._dealing = Dealing(1, options.batches_per_step)
        self._in_graph = InGraph()
        self._rows = TableRows(graph.tables, runner, self._in_graph, self.written)
        self._agreed = self._level = False
        self._kept = KeptWork(options.batches_per_step)
        self.clock = StepClock()

    @property
    def spec(self) -> GroupSpec | None:
        """See ``Group``."""
        return self._meeting.spec

    @property
    def session(self) -> LiveSession:
        """Opened when it's first needed: a GPU standby must have its devices before."""
        if self._session is None:
            self._session = LiveSession(self._imported, self._options)
        return self._session

    @property
    def address(self) -> str:
        """See ``Group``."""
        return self._meeting.address

    @property
    def batches_per_step(self) -> int:
        """See ``Group``."""
        return self._options.batches_per_step

    def join(self, spec: GroupSpec) -> None:
        """See ``Group.join``.

        Raises:
            GraphRefused: there are more members than batches in a step.
        """
        if spec.world_size > self.batches_per_step:
            raise GraphRefused(
                f"a step has {self.batches_per_step} batches, which is too few for {spec.world_size} workers",
                remedy="Use fewer --workers, or a larger --batches-per-step",
            )
        self._meeting.join(spec)
        self._dealing = Dealing(spec.world_size, self.batches_per_step, spec.position)
        self._agreed = self._level = False

    def meet(self, timeout_s: float | None) -> bool:
        """See ``Group.meet``."""
        mesh = self._meeting.meet(timeout_s)
        if self._level:
            return False
        self._rows.agree(mesh)
        lacked = self._kept.handed_on(mesh)
        if lacked is not None:
            self._apply(*lacked)
        self._level = True
        return lacked is not None

    @property
    def computing(self) -> bool:
        """See ``Group``."""
        return self._in_graph.now

    @property
    def can_give(self) -> bool:
        """See ``Group``."""
        return self._kept.can_give

    @property
    def can_take(self) -> bool:
        """See ``Group``."""
        return self._kept.can_take

    @property
    def dead(self) -> tuple[int, ...]:
        """See ``Group``."""
        return self._meeting.dead()

    def run(self, run: StepRun, keys: Mapping[str, np.ndarray]) -> Shown:
        """See ``Group.run``."""
        mesh = self._meeting.meet(None)
        owners = self._owners(mesh, run)
        with self.clock.of("exchange"):
            run = self._rows.looked_up(mesh, self.session, run)
        # Noted before anything can fail: whoever is cut off in the exchange can take the result
        # from a peer, and needs no more than this to apply it
        begun = self._kept.begin(run, keys)
        result: dict[str, np.ndarray] = {}
        watched: dict[str, float] = {}
        summaries: dict[str, float] = {}
        for number, level in enumerate(self._phases.levels(run.target)):
            wanted = owners[mesh.rank] if number == 0 else None
            with self.clock.of("compute"):
                mine, shown = self._compute(run, number, {**keys, **result}, wanted)
            summaries.update(shown)
            # What was kept concerns the first round alone, and so do the owners that follow from it
            dealt = owners if number == 0 else self._dealing.slots(run.first)
            with self.clock.of("exchange"):
                fed, numbers = self._exchange(mesh, run, number, level, mine, dealt)
            result.update(fed)
            watched.update(numbers)
        with self.clock.of("apply"):
            last_watched, last_summaries = self._apply(begun, result)
        return watched | last_watched, summaries | last_summaries

    def prepare(self, target: int, feeds: Sequence[str]) -> tuple[str, ...]:
        """See ``Group.prepare``."""
        self._phases.prepare(self.session, target, feeds)
        levels = self._phases.levels(target)
        return levels[0].fetches if levels else ()

    def abandon(self, generation: int | None) -> None:
        """See ``Group.abandon``."""
        self._meeting.abandon(generation)

    def forget(self, state: State) -> None:
        """See ``Group.forget``."""
        self._kept.forget()
        self._rows.hold(state)

    def rows_moved(self, share: tuple[int, int]) -> None:
        """See ``Group.rows_moved``."""
        self._kept.drop_begun()
        self._rows.moved(share)

    def close(self) -> None:
        """See ``Group.close``."""
        self._meeting.close()
        session, self._session = self._session, None
        if session is not None:
            session.close()

    # -- who computes what

    def _owners(self, mesh: Collectives, run: StepRun) -> list[frozenset[int]]:
        """By rank, the slots that it contributes to the first round: its own, except right after a
        break.

        Then whoever has kept something contributes that, and what nobody has is computed by those
        who serve the batches.
        """
        if self._agreed:
            return self._dealing.slots(run.first)
        owners = self._kept.owners(mesh, run, self._dealing.slots(run.first))
        self._agreed = True
        return owners

    # -- the phases

    def _compute(
        self,
        run: StepRun,
        number: int,
        common: Mapping[str, np.ndarray],
        wanted: frozenset[int] | None,
    ) -> tuple[Contribution, dict[str, float]]:
        """This rank's part of a round; and the summaries of its first batch.

        Args:
            wanted: the slots to contribute, None for all that this rank serves.
        """
        mine = Contribution(Accumulator(self.batches_per_step))
        if number == 0:  # only that can be kept over a break: later rounds depend on its result
            mine = self._kept.contribution(run, wanted)
        summaries: dict[str, float] = {}
        for place, batch in enumerate(run.batches):
            slot = batch.number - run.first
            needed = slot not in mine.slots and (wanted is None or slot in wanted)
            # One that contributes nothing, since others have kept it all, computes a batch all the
            # same to learn the shapes
            if needed or mine.like is None:
                computed = self._computed(
                    run, number, batch, common, summaries=run.summaries and place == 0
                )
                mine.like = computed
                summaries.update(computed.summaries)
                if needed:
                    mine.add(slot, computed)
        return mine, summaries

    def _computed(
        self,
        run: StepRun,
        number: int,
        batch: Batch,
        common: Mapping[str, np.ndarray],
        *,
        summaries: bool,
    ) -> Computed:
        feeds = {**self._runner.fed(run.target, batch.feeds), **common}
        try:
            with self._in_graph:
                return self._phases.compute(
                    self.session, run.target, number, feeds, summaries=summaries
                )
        except RUN_ERRORS as error:
            raise graph_error(error, self.spec, run.step) from error

    def _exchange(
        self,
        mesh: Collectives,
        run: StepRun,
        number: int,
        level: Level,
        mine: Contribution,
        dealt: Sequence[frozenset[int]],
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """What to feed at the seams of a level, and the means of what is shown."""
        names = self._phases.watched(run.target, number)
        key = run.target * ROUNDS + number
        return combined(mesh, level, mine, dealt, self.batches_per_step, names, key)

    def _apply(self, begun: BegunRun, result: dict[str, np.ndarray]) -> Shown:
        # The last phase still takes placeholders that no seam covers (a learning rate, a summary's
        # input); of those that differ by batch it's the last batch that is shown
        run, batch = begun.run, begun.run.batches[-1]
        feeds = {**self._runner.fed(run.target, batch.feeds), **begun.keys, **result}
        with self._writing, self._in_graph:
            try:
                shown = self._phases.apply(self.session, run.target, feeds, summaries=run.summaries)
            except RUN_ERRORS as error:
                raise graph_error(error, self.spec, run.step) from error
        self._kept.applied(begun, result)
        self._rows.applied()
        return shown
