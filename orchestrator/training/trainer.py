"""How does one worker train one graph, step by step, in one group after another?

Rule: a step happens as a whole or not at all, and what a step is given doesn't depend on what failed before it. The order of calls::

    Trainer ─► reserve_address ─► form ─► assign ─► step … step ─► state
                     ▲                                  │ PeerLost
                     └──────────── state ◄──────────────┘

Threads: ``form``, ``assign``, ``step``, ``place_inputs``, ``pull`` and ``close`` belong to one thread. Any other thread may call ``abandon``,
``reserve_address``, ``checksums`` and the properties at any time, and ``state``, which waits for a running step to end.
``checksums`` and ``write_bundle`` work on a State alone and may run beside steps.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from orchestrator.errors import PeerLost, UserCodeError
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training import failures
from orchestrator.training.engine import tf
from orchestrator.training.imported import import_graph
from orchestrator.training.live_inputs import LiveInputs
from orchestrator.training.membership import Membership
from orchestrator.training.options import GroupSpec, TrainingOptions
from orchestrator.training.pipelines import Share
from orchestrator.training.placement import prepare_process
from orchestrator.training.restoring import load
from orchestrator.training.rng import GROUP, step_key
from orchestrator.training.sessions import LiveSession
from orchestrator.training.snapshot import Snapshot
from orchestrator.training.state import State, StepOutput, checksums
from orchestrator.training.stepping import StepRunner

__all__ = ["GroupSpec", "State", "StepOutput", "Trainer", "TrainingOptions"]

RUN_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, TypeError)
"""What TensorFlow raises out of a run: an operation's error, a closed session, a feed that doesn't convert."""


class Trainer:
    """One imported graph and at most one live session.

    Args:
        graph: the rewritten graph and what it needs.
        options: what holds for all generations.

    Raises:
        ConfigError: a module or library that the options name can't be loaded.
        GraphMismatch: this TensorFlow can't import the graph.
    """

    def __init__(self, graph: WorkerGraph, options: TrainingOptions) -> None:
        prepare_process(options)
        self.graph = graph
        self.options = options
        self._imported = import_graph(graph, options)
        self._membership = Membership(graph, self._imported, options)
        self._snapshot = Snapshot(self._imported, graph)
        self._runner = StepRunner(graph, self._imported, options)
        self._inputs = LiveInputs(graph, self._imported, options)
        self._cycle = tuple(number for number, target in enumerate(graph.targets) for _ in range(target.ratio))
        self._step, self._phase = 0, 0
        self._busy = threading.RLock()

    @property
    def step_now(self) -> int:
        """The global step of the last finished step (or of the last assigned state)."""
        return self._step

    @property
    def group(self) -> GroupSpec | None:
        """The group of the live session."""
        return self._membership.group

    def reserve_address(self) -> str:
        """``host:port`` under which the next ``form`` will serve; the port is held until then.

        Raises:
            AddressTaken: this machine has no free port.
        """
        return self._membership.reserve_address()

    def form(self, group: GroupSpec) -> None:
        """Leave the old session and its variables, and open the one of ``group``. Call ``state`` before and ``assign`` after it.

        Raises:
            AddressTaken: another process took the reserved port; reserve a new one on every rank and form again.
            GraphRefused: the graph can't be trained by more than one worker.
        """
        with self._busy:
            self._runner.release()
            self._membership.form(group)

    def load_checkpoint(self, prefix: str, *, init_missing: bool = False) -> State:
        """The state that a checkpoint on local disk holds.

        Args:
            prefix: path without ``.index`` (V2 format), or the file itself (V1 format).
            init_missing: run the graph's initialisers for needed variables that the checkpoint lacks. They may draw random
                numbers: let one rank load, and give its State to the others.

        Raises:
            CorruptCheckpoint: the files can't be read.
            GraphMismatch: tensors are missing, or have another shape or dtype than the graph's variables; all are named.
        """
        return load(self.graph, self._imported, self._snapshot, self.options, prefix, init_missing=init_missing)

    def assign(self, state: State) -> None:
        """Make ``state`` this session's; its tables and local variables are initialised before that, once per session.

        Raises:
            GraphMismatch: a name or a shape isn't the graph's.
            UserCodeError: an initialiser of the graph failed (a vocabulary file that isn't there).
        """
        with self._busy:
            try:
                self._snapshot.restore(self._membership.live, state)
            except tf.errors.OpError as error:
                raise failures.user_error(error, "the graph's initialisers failed", step=state.step) from error
            self._step, self._phase = state.step, state.phase

    def state(self) -> State:
        """A copy of everything that training changes, in host memory; also after PeerLost. Waits for a running step."""
        with self._busy:
            return self._state_of(self._snapshot.read_all(self._membership.live))

    def state_for_save(self) -> State:
        """What ``state`` gives, much faster, in memory that the next call overwrites. It stays as it is while steps go on."""
        with self._busy:
            return self._state_of(self._snapshot.copy_all(self._membership.live))

    def _state_of(self, arrays: dict[str, np.ndarray]) -> State:
        counter = self.graph.step
        if counter is not None and counter.variable in arrays:
            self._step = int(arrays[counter.variable])
        return State(self._step, arrays, self._phase)

    def meet(self, *, timeout_s: float | None = None) -> None:
        """Wait until every rank of the group has come. ``step`` does that too, before a group's first one; later there's nothing to wait for.

        Raises:
            PeerLost: a rank is gone or didn't come in time.
        """
        with self._busy:
            try:
                self._enter(timeout_s)
            except PeerLost:
                self.abandon()
                raise

    def step(self, feeds: Mapping[str, Any], *, timeout_s: float | None = None) -> StepOutput:
        """Take one step: all train operations of a cycle, nearly always one.

        Args:
            feeds: input name or tensor name to this rank's batch.
            timeout_s: end with PeerLost after so many seconds; in a group of one there is nobody to wait for and it is ignored.

        Raises:
            PeerLost: a peer is gone, hangs, or has abandoned the group; nothing changed here, form a new group.
            UserCodeError: the feeds or an operation of the graph are wrong; nothing changed here. Peers see PeerLost.
        """
        with self._busy:
            try:
                return self._run_cycle(self._runner.checked(feeds), timeout_s)
            except (UserCodeError, PeerLost):
                self.abandon()  # so that every peer learns of it, whoever it waits for
                raise

    def place_inputs(self, share: Share) -> None:
        """From now on ``pull`` gives this share of the batches that the graph makes itself."""
        self._inputs.place(share)

    def pull(self) -> dict[str, np.ndarray]:
        """One batch from the graph's own queues or iterators, by input name; empty where it has none.

        Raises:
            EndOfData: they are exhausted.
            UserCodeError: reading or decoding failed.
        """
        return self._inputs.pull()

    def abandon(self, generation: int | None = None) -> None:
        """Leave the group, from any thread: a step that runs here and steps of the peers end with PeerLost within about a second.

        For the end of the input, for an error outside the graph, and for every loss that this worker is told of: a peer that
        dies before its first step in a generation leaves nothing behind that TensorFlow could notice.

        Args:
            generation: do nothing where the live session is another generation's, for calls that may come late.
        """
        self._membership.abandon(generation)

    def checksums(self, state: State) -> dict[str, int]:
        """crc32c of every variable that must be equal on all ranks (all but local ones), by name."""
        return checksums(state, without=frozenset(variable.name for variable in self.graph.variables if variable.local))

    def close(self) -> None:
        """End the session and the graph's own input threads."""
        with self._busy:
            self._inputs.close()
            self._runner.release()
            self._membership.close()
            self._membership.release_address()

    def _run_cycle(self, batch: Mapping[str, np.ndarray], timeout_s: float | None) -> StepOutput:
        every = self.options.summary_steps
        summaries = bool(every) and (self._step + 1) % every == 0
        watched: dict[str, float] = {}
        shown: dict[str, float] = {}
        while True:
            more_watched, more_shown = self._run_target(batch, timeout_s, summaries)
            watched.update(more_watched)
            shown.update(more_shown)
            if self._phase == 0:
                return StepOutput(self._step, watched, shown)

    def _run_target(
        self, batch: Mapping[str, np.ndarray], timeout_s: float | None, summaries: bool
    ) -> tuple[dict[str, float], dict[str, float]]:
        live, target = self._membership.live, self._cycle[self._phase]
        self._enter(timeout_s)
        try:
            result = self._runner.run(live, target, batch, self._extra_feeds(live), timeout_s=timeout_s, summaries=summaries)
        except RUN_ERRORS as error:
            raise self._step_error(error) from error
        self._phase = (self._phase + 1) % len(self._cycle)
        self._advance(live)
        return result

    def _enter(self, timeout_s: float | None) -> None:
        try:
            self._membership.enter(timeout_s)
        except RUN_ERRORS as error:
            raise self._step_error(error) from error

    def _step_error(self, error: BaseException) -> BaseException:
        self._membership.must_be_in()
        live = self._membership.live
        return failures.step_error(error, rank=live.group.rank, step=self._step, shared=live.shared)

    def _extra_feeds(self, live: LiveSession) -> dict[str, np.ndarray]:
        extra: dict[str, np.ndarray] = {}
        if self.graph.rng_feed is not None:
            extra[self.graph.rng_feed] = step_key(self.options.seed, live.group.rank, self._step, self._phase)
        if self.graph.group_rng_feed is not None:
            extra[self.graph.group_rng_feed] = step_key(self.options.seed, GROUP, self._step, self._phase)
        return extra | self._membership.feeds()

    def _advance(self, live: LiveSession) -> None:
        counter = self.graph.step
        if counter is None:
            self._step += self._phase == 0
        elif counter.increment is not None and len(self._cycle) == 1:
            self._step += counter.increment
        else:
            self._step = int(self._snapshot.read(live, [counter.variable])[counter.variable])
