"""How does a group take a step whose exchange is TensorFlow's own, on GPUs?

Rule: one run of the graph a step, in which NCCL reduces the gradients; each member computes one
batch. A mesh outside of TensorFlow stands beside it, for what NCCL can't do: tell where everybody's
server is, and vote. NCCL may report a collective that was aborted as done, with whatever its
buffers held (read in TensorFlow's ``nccl_manager.cc``), so between the collectives and the barrier
every rank asks all others whether they are still there, and a step whose peer is gone changes
nothing. Not yet run on two GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.errors import OrchestratorError, PeerLost
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine import failures
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.nccl.membership import Membership
from orchestrator.training.state.state import State
from orchestrator.training.step.groups import RUN_ERRORS, Shown, StepRun
from orchestrator.training.step.meeting import Meeting
from orchestrator.training.step.step_clock import StepClock
from orchestrator.training.step.stepping import StepRunner


class NcclGroup:
    """Membership in one group after another, and steps inside TensorFlow; see ``groups.Group``."""

    keeps_variables = False
    can_give = can_take = False
    written = None
    dead = ()
    computing = False
    """Its exchange is inside the session's run: whoever is there may be waiting for a peer."""

    def __init__(
        self,
        graph: WorkerGraph,
        imported: Any,
        options: TrainingOptions,
        runner: StepRunner,
        secret: bytes,
        writing: Any,
    ) -> None:
        self._options, self._runner, self._writing = options, runner, writing
        self._membership = Membership(graph, imported, options, self._vote)
        self._meeting = Meeting(options.host, secret)
        self._lost: PeerLost | None = None
        self.clock = StepClock()
        """Its exchange and its writers run beside the computing, which has all of the time."""

    @property
    def spec(self) -> GroupSpec | None:
        """See ``Group``."""
        return self._meeting.spec

    @property
    def session(self) -> LiveSession:
        """See ``Group``."""
        return self._membership.live

    @property
    def address(self) -> str:
        """See ``Group``."""
        return self._meeting.address

    @property
    def batches_per_step(self) -> int:
        """One for each member."""
        return self.spec.world_size if self.spec else 1

    def join(self, spec: GroupSpec) -> None:
        """See ``Group.join``; waits for the others, whose servers this one has to know.

        Raises:
            AddressTaken: another process took the server's port; form the group again.
            PeerLost: a rank is gone or didn't come.
        """
        # What the last group's vote had found says nothing of this one
        self._lost = None
        self._meeting.join(spec)
        if spec.world_size == 1:
            self._membership.form(spec)
            return
        mesh = self._meeting.meet(None)
        answers = mesh.all_gather(self._membership.reserve_address().encode())
        self._membership.form(
            replace(spec, addresses=tuple(bytes(answer).decode() for answer in answers))
        )

    def meet(self, timeout_s: float | None) -> bool:
        """See ``Group.meet``."""
        if self._membership.live.shared:
            self._meeting.meet(timeout_s)
        return False

    def run(self, run: StepRun, keys: Mapping[str, np.ndarray]) -> Shown:
        """See ``Group.run``."""
        (batch,) = run.batches
        feeds = {**self._runner.fed(run.target, batch.feeds), **keys, **self._membership.feeds()}
        with self._writing, self.clock.of("compute"):
            try:
                self._membership.enter(None)
                return self._runner.run(self.session, run.target, feeds, summaries=run.summaries)
            except RUN_ERRORS as error:
                raise self._error(error, run.step) from error

    def _error(self, error: BaseException, step: int) -> OrchestratorError:
        live = self._membership.live
        if self._lost is not None:
            return self._lost  # TensorFlow passes on what the vote raised as a text
        try:
            self._membership.must_be_in()
        except PeerLost as left:
            return left
        return failures.step_error(error, rank=live.group.rank, step=step, shared=live.shared)

    def _vote(self) -> np.ndarray:
        """Called inside the graph, between its collectives and its barrier."""
        if self._membership.live.shared:
            try:
                self._meeting.meet(None).all_gather(b"")
            except PeerLost as error:
                self._lost = error
                raise
        return np.array(0, np.int32)

    def prepare(self, target: int, feeds: Sequence[str]) -> tuple[str, ...]:
        """Nothing can be done ahead: each generation opens a session of its own."""
        return ()

    def abandon(self, generation: int | None) -> None:
        """See ``Group.abandon``."""
        self._meeting.abandon(generation)
        self._membership.abandon(generation)

    def forget(self, state: State) -> None:
        """Nothing is kept between two runs."""

    def rows_moved(self, share: tuple[int, int]) -> None:
        """Tables are whole here."""

    def close(self) -> None:
        """See ``Group.close``."""
        self._meeting.close()
        self._membership.close()
        self._membership.release_address()
