"""What is a group to the trainer?

Rule: alone nothing is exchanged and nothing is cut; with more than one batch a step the group meets
outside of TensorFlow (``host_group``), or inside it where ``nccl`` was chosen (``nccl/``). One kind
for a worker's whole life.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from orchestrator.errors import GraphRefused, OrchestratorError
from orchestrator.training.engine import failures
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.engine.tensorflow import tf
from orchestrator.training.state.state import State
from orchestrator.training.state.written_rows import WrittenRows
from orchestrator.training.step.step_clock import StepClock
from orchestrator.training.step.stepping import StepRunner

RUN_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, TypeError)
"""What TensorFlow raises out of a run: an operation's error, a closed session, a feed that doesn't
convert.
"""


@dataclass(frozen=True)
class Batch:
    """A batch as the graph takes it: its number in the run, and tensor name to value."""

    number: int
    feeds: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class StepRun:
    """One run of one train operation.

    Attributes:
        target: which operation.
        phase: which run of the cycle this is.
        position: batches that the whole group had consumed before the step.
        first: number of the batch that slot 0 of this run takes.
        step: the last finished global step.
        batches: this rank's, of this run.
        summaries: the graph's scalar summaries are wanted.
    """

    target: int
    phase: int
    position: int
    first: int
    step: int
    batches: tuple[Batch, ...]
    summaries: bool = False


Shown = tuple[dict[str, float], dict[str, float]]
"""What a run watched, and its summaries."""


class Group(Protocol):
    """Membership in one group after another, and a run of a train operation in it."""

    @property
    def spec(self) -> GroupSpec | None:
        """The present membership."""

    @property
    def session(self) -> LiveSession:
        """The session that holds the variables."""

    @property
    def address(self) -> str:
        """Where peers reach this worker."""

    @property
    def batches_per_step(self) -> int:
        """Slots of a step."""

    @property
    def clock(self) -> StepClock:
        """What its steps have spent their time on."""

    @property
    def written(self) -> WrittenRows | None:
        """Which rows of divided tables were written; None where that isn't noted."""

    @property
    def keeps_variables(self) -> bool:
        """Whether joining another group leaves the variables as they are."""

    def join(self, spec: GroupSpec) -> None:
        """Leave the old group, and belong to this one."""

    def meet(self, timeout_s: float | None) -> bool:
        """Wait for the other ranks; whether this one was a run behind and has now taken it. Raises
        PeerLost, CorruptState, UserCodeError.
        """

    @property
    def can_give(self) -> bool:
        """Whether a member that lacks the result of the last run could get it from this one."""

    @property
    def can_take(self) -> bool:
        """Whether this one has computed a run whose result it could take from another one."""

    @property
    def dead(self) -> tuple[int, ...]:
        """Ranks of the present group whose processes have ended, as far as it's known here."""

    @property
    def computing(self) -> bool:
        """Whether a step is inside the session's run just now, where it waits for no peer; asked
        from any thread.
        """

    def run(self, run: StepRun, keys: Mapping[str, np.ndarray]) -> Shown:
        """One run of a train operation. Raises PeerLost, UserCodeError; nothing changed then.

        Args:
            keys: what random numbers that all ranks draw alike are keyed with.
        """

    def prepare(self, target: int, feeds: Sequence[str]) -> tuple[str, ...]:
        """Open the session and make a target's calls ahead of its first run; tensors that can be
        computed without writing anything.

        Args:
            feeds: what a run is fed with, in its order.
        """

    def abandon(self, generation: int | None) -> None:
        """Leave, from any thread, and let the peers know."""

    def forget(self, state: State) -> None:
        """The variables are about to be set to ``state``: what was computed from the old ones
        counts no more.
        """

    def rows_moved(self, share: tuple[int, int]) -> None:
        """The rows of divided tables are those of that rank of so many now, of the same state: what
        was begun with the old ones is never applied.
        """

    def close(self) -> None:
        """Leave, and end the session."""


class InGraph:
    """Whether the thread that steps is inside the session's run."""

    def __init__(self) -> None:
        self.now = False

    def __enter__(self) -> None:
        self.now = True

    def __exit__(self, *_: object) -> None:
        self.now = False


class Alone:
    """A group of one that trains the graph as it is."""

    batches_per_step = 1
    keeps_variables = True
    can_give = can_take = False
    written = None
    dead = ()
    address = ""

    def __init__(
        self,
        imported: Any,
        options: TrainingOptions,
        runner: StepRunner,
        writing: threading.RLock,
        refused: str,
    ) -> None:
        self._imported, self._options, self._runner, self._writing, self._refused = (
            imported,
            options,
            runner,
            writing,
            refused,
        )
        self._session: LiveSession | None = None
        self.spec: GroupSpec | None = None
        self.in_graph = InGraph()
        self.clock = StepClock()
        """All of a run counts as computing."""

    @property
    def session(self) -> LiveSession:
        """Opened when it's first needed: a GPU standby must have its devices before."""
        if self._session is None:
            self._session = LiveSession(self._imported, self._options)
        return self._session

    def join(self, spec: GroupSpec) -> None:
        """See ``Group.join``."""
        if spec.world_size > 1:
            why = self._refused or "the run has one batch a step"
            raise GraphRefused(
                f"this graph can't train on {spec.world_size} workers: {why}",
                remedy="Use --workers 1",
            )
        self.spec = spec

    @property
    def computing(self) -> bool:
        """See ``Group``."""
        return self.in_graph.now

    def meet(self, timeout_s: float | None) -> bool:
        """There is nobody to wait for."""
        return False

    def run(self, run: StepRun, keys: Mapping[str, np.ndarray]) -> Shown:
        """See ``Group.run``."""
        (batch,) = run.batches
        feeds = {**self._runner.fed(run.target, batch.feeds), **keys}
        with self._writing, self.in_graph, self.clock.of("compute"):
            try:
                return self._runner.run(self.session, run.target, feeds, summaries=run.summaries)
            except RUN_ERRORS as error:
                raise graph_error(error, self.spec, run.step) from error

    def prepare(self, target: int, feeds: Sequence[str]) -> tuple[str, ...]:
        """See ``Group.prepare``."""
        self._runner.prepare(self.session, target, feeds)
        return self._runner.shown[target].watched

    def abandon(self, generation: int | None) -> None:
        """There is nobody to tell."""

    def forget(self, state: State) -> None:
        """Nothing is kept between two steps."""

    def rows_moved(self, share: tuple[int, int]) -> None:
        """Tables are whole here."""

    def close(self) -> None:
        """End the session."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


def graph_error(error: BaseException, spec: GroupSpec | None, step: int) -> OrchestratorError:
    """The project's error for what TensorFlow raised in a phase of a step; outside of TensorFlow
    there are no peers to blame.
    """
    rank = spec.rank if spec else 0
    return failures.user_error(
        error, f"rank {rank}: the step after {step} failed in the graph", rank=rank, step=step
    )
