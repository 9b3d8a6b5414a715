"""How does one worker train one graph, step by step, in one group after another?

Rule: a step happens as a whole or not at all, and what it computes doesn't depend on what failed
before it, nor on how many workers share it. The session and its variables stay through all groups;
a worker that was a member goes on from what it has::

    Trainer ─► assign ─► join ─► step … step ─► state
                          ▲          │ PeerLost
                          └──────────┘

Threads: ``join``, ``assign``, ``meet``, ``step``, ``place_inputs``, ``pull`` and ``close`` belong
to one thread. Any other thread may call ``abandon``, ``checksums`` and the properties at any time,
and ``state``, which waits for a phase that writes. ``checksums`` and ``write_bundle`` work on a
State alone and may run beside steps.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.errors import CorruptState, PeerLost, UserCodeError
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine import failures
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.engine.session_config import prepare_process
from orchestrator.training.engine.tensorflow import tf
from orchestrator.training.importing.import_graph import import_graph
from orchestrator.training.inputs.live_inputs import LiveInputs
from orchestrator.training.inputs.rank_share import Share
from orchestrator.training.opening import open_group
from orchestrator.training.state.restoring import load
from orchestrator.training.state.snapshot import Snapshot
from orchestrator.training.state.state import State, StepOutput, checksums
from orchestrator.training.step.dealing import Dealing
from orchestrator.training.step.groups import Batch, Group, StepRun
from orchestrator.training.step.readiness import get_ready
from orchestrator.training.step.rng import batch_key, group_key
from orchestrator.training.step.stepping import StepRunner

__all__ = ["GroupSpec", "State", "StepOutput", "Trainer", "TrainingOptions"]


class Trainer:
    """One imported graph in one session.

    Args:
        graph: the rewritten graph and what it needs.
        options: what holds for all generations.
        secret: what only members of the run know; peers prove it to each other.

    Raises:
        ConfigError: a module or library that the options name can't be loaded.
        GraphMismatch: this TensorFlow can't import the graph.
    """

    def __init__(self, graph: WorkerGraph, options: TrainingOptions, secret: bytes = b"") -> None:
        prepare_process(options)
        self.graph = graph
        self.options = options
        self._imported = import_graph(graph, options)
        self._snapshot = Snapshot(self._imported, graph)
        self._runner = StepRunner(graph, self._imported, options)
        self._writing = threading.RLock()
        self._group: Group = open_group(
            graph, self._imported, options, self._runner, secret, self._writing
        )
        self._inputs = LiveInputs(graph, self._imported, options)
        self._cycle = graph.cycle
        self._step, self._phase, self._position = 0, 0, 0
        self._assigned = False
        self._carried: State | None = None
        """The state, while it's between the session of one group and that of the next."""
        self._dealing = Dealing(1, options.batches_per_step)

    @property
    def size_bytes(self) -> int:
        """Bytes of the state, as far as they are known without reading it."""
        return self._snapshot.size_bytes

    @property
    def position(self) -> int:
        """Batches that the whole group has consumed."""
        return self._position

    @property
    def turns(self) -> tuple[int, ...]:
        """The numbers of this rank's batches in the next step; ``step`` takes one batch for each."""
        spec = self._group.spec
        rank, slots = spec.rank if spec else 0, self._group.batches_per_step
        return tuple(
            number
            for draw in range(self.graph.batches_per_slot)
            for number in self._dealing.batches(rank, self._position + draw * slots)
        )

    @property
    def runs(self) -> int:
        """Runs of the next step's cycle that are done already; 0 between two steps."""
        return self._phase

    @property
    def can_give(self) -> bool:
        """Whether a member that lacks the result of the last run could get it from this one."""
        return self._group.can_give

    @property
    def computing(self) -> bool:
        """Whether a step is inside the session's run, where it waits for no peer; from any thread."""
        return self._group.computing

    @property
    def can_take(self) -> bool:
        """Whether this worker has computed a run whose result it could take from a member."""
        return self._group.can_take

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds of this process's steps so far: ``compute``, ``exchange``, ``apply``."""
        return self._group.clock.seconds

    @property
    def dead_peers(self) -> tuple[int, ...]:
        """Ranks of the group whose processes have ended, as far as it's known here."""
        return self._group.dead

    @property
    def group(self) -> GroupSpec | None:
        """The group that this worker belongs to."""
        return self._group.spec

    @property
    def address(self) -> str:
        """Where the other workers reach this one, for ``GroupSpec.addresses``; the same for the
        process's life.
        """
        return self._group.address

    def join(self, group: GroupSpec) -> None:
        """Leave the old group and belong to ``group``. The variables stay as they are; ``assign``
        sets them where they aren't the group's.

        Raises:
            GraphRefused: the graph can't be trained by more than one worker.
        """
        carried = self._carried = (
            None if self._group.keeps_variables or not self._assigned else self.state()
        )
        self._group.join(group)
        if carried is not None:
            self.assign(carried)
            self._carried = None
        self._dealing = Dealing(group.world_size, self._group.batches_per_step, group.position)
        self._position = group.position

    def get_ready(self) -> bool:
        """Do ahead of time what a take-over needs besides the state; see ``readiness``. Whether all
        of it went well.

        For a standby that has nothing else to do. Nothing is done where GPUs are used, since a
        standby has none yet.
        """
        if self.options.gpu or not self._group.keeps_variables:
            return False
        self._snapshot.prepare(self._group.session)
        return get_ready(
            self._imported, self.graph, self.options, self._snapshot, self._group.prepare
        )

    def load_checkpoint(
        self, prefix: str, *, init_missing: bool = False, of_source: bool = True
    ) -> State:
        """The state that a checkpoint on local disk holds.

        Args:
            prefix: path without ``.index`` (V2 format), or the file itself (V1 format).
            init_missing: run the graph's initialisers for needed variables that the checkpoint
                lacks. They may draw random numbers: let one rank load, and give its State to the
                others.
            of_source: as ``restoring.load`` takes it.

        Raises:
            CorruptCheckpoint: the files can't be read.
            GraphMismatch: tensors are missing, or have another shape or dtype than the graph's
                variables; all are named.
        """
        return load(
            self.graph,
            self._imported,
            self._snapshot,
            self.options,
            prefix,
            init_missing=init_missing,
            of_source=of_source,
        )

    def assign(self, state: State) -> None:
        """Make ``state`` this session's; its tables and local variables are initialised before
        that, once per session.

        Raises:
            GraphMismatch: a name or a shape isn't the graph's.
            UserCodeError: an initialiser of the graph failed (a vocabulary file that isn't there).
        """
        with self._writing:
            self._group.forget()
            try:
                self._snapshot.restore(self._group.session, state)
            except tf.errors.OpError as error:
                raise failures.user_error(
                    error, "the graph's initialisers failed", step=state.step
                ) from error
            self._step, self._phase, self._assigned = state.step, state.phase, True

    def state(self) -> State:
        """A copy of everything that training changes, in host memory. Between two steps it is the
        last one's.
        """
        if self._carried is not None:
            return self._carried
        with self._writing:
            return self._state_of(self._snapshot.read_all(self._group.session))

    def state_for_save(self) -> State:
        """What ``state`` gives, much faster, in memory that the next call overwrites. It stays as
        it is while steps go on.
        """
        with self._writing:
            return self._state_of(self._snapshot.copy_all(self._group.session))

    def _state_of(self, arrays: dict[str, np.ndarray]) -> State:
        counter = self.graph.step
        step = (
            self._step
            if counter is None or counter.variable not in arrays
            else int(arrays[counter.variable])
        )
        return State(step, arrays, self._phase)

    def meet(self, *, timeout_s: float | None = None) -> bool:
        """Wait until every rank of the group has come. ``step`` does that too, before a group's
        first one; later there's nothing to wait for.

        A member that was cut off when its peers had a step's result already takes it from them
        here, and is as far as they are. True says so.

        Raises:
            PeerLost: a rank is gone or didn't come in time.
            CorruptState: the result that was lacked arrived damaged.
        """
        try:
            took = self._group.meet(timeout_s)
            if took:
                self._finish_run()
        except (PeerLost, CorruptState, UserCodeError):
            self.abandon()
            raise
        return took

    def step(self, batches: Sequence[Mapping[str, Any]]) -> StepOutput:
        """Take one step: all train operations of a cycle, nearly always one.

        Args:
            batches: for each of ``turns``, input name or tensor name to value.

        Raises:
            PeerLost: a peer is gone or has abandoned the group; nothing changed here. Join a new
                group and take the step again.
            UserCodeError: the feeds or an operation of the graph are wrong; nothing changed here.
                Peers see PeerLost.
        """
        self.meet()
        try:
            checked = [
                Batch(number, self._runner.checked(feeds))
                for number, feeds in zip(self.turns, batches, strict=True)
            ]
            return self._run_cycle(checked)
        except (UserCodeError, PeerLost):
            self.abandon()  # so that every peer learns of it, whoever it waits for
            raise

    def place_inputs(self, share: Share) -> None:
        """From now on ``pull`` gives this share of the batches that the graph makes itself."""
        self._inputs.place(share)

    def pull(self) -> dict[str, np.ndarray]:
        """One batch from the graph's own queues or iterators, by input name; empty where it has
        none.

        Raises:
            EndOfData: they are exhausted.
            UserCodeError: reading or decoding failed.
        """
        return self._inputs.pull()

    def abandon(self, generation: int | None = None) -> None:
        """Leave the group, from any thread: a step that runs here and steps of the peers end with
        PeerLost at once.

        For the end of the input, for an error outside the graph, and for every loss that this
        worker is told of.

        Args:
            generation: do nothing where the group is another generation's, for calls that may come
                late.
        """
        self._group.abandon(generation)

    def checksums(self, state: State) -> dict[str, int]:
        """crc32c of every variable that must be equal on all ranks (all but local ones), by name."""
        return checksums(
            state,
            without=frozenset(variable.name for variable in self.graph.variables if variable.local),
        )

    def close(self) -> None:
        """End the session and the graph's own input threads."""
        with self._writing:
            self._inputs.close()
            self._group.close()

    @property
    def _consumed(self) -> int:
        """Batches that the whole group takes in one step."""
        return self._group.batches_per_step * self.graph.batches_per_slot

    @property
    def _cycles(self) -> int:
        """Steps of the group since the run's start, whatever the graph's own counter says."""
        return self._position // self._consumed

    def _run_cycle(self, batches: Sequence[Batch]) -> StepOutput:
        every = self.options.summary_steps
        summaries = bool(every) and (self._cycles + 1) % every == 0
        watched: dict[str, float] = {}
        shown: dict[str, float] = {}
        while True:
            more_watched, more_shown = self._run_target(batches, summaries)
            watched.update(more_watched)
            shown.update(more_shown)
            if self._phase == 0:
                self._position += self._consumed
                return StepOutput(self._step, watched, shown)

    def _run_target(
        self, batches: Sequence[Batch], summaries: bool
    ) -> tuple[dict[str, float], dict[str, float]]:
        slots = self._group.batches_per_step
        first = self._position + self.graph.run_batches[self._phase] * slots
        own = [batch for batch in batches if first <= batch.number < first + slots]
        run = StepRun(
            self._cycle[self._phase],
            self._phase,
            self._position,
            first,
            self._step,
            tuple(map(self._keyed, own)),
            summaries,
        )
        result = self._group.run(run, self._group_keys())
        self._finish_run()
        return result

    def _finish_run(self) -> None:
        self._phase = (self._phase + 1) % len(self._cycle)
        self._advance()

    def _keyed(self, batch: Batch) -> Batch:
        if self.graph.rng_feed is None:
            return batch
        key = batch_key(self.options.seed, batch.number, self._phase)
        return Batch(batch.number, {**batch.feeds, self.graph.rng_feed: key})

    def _group_keys(self) -> dict[str, np.ndarray]:
        feed = self.graph.group_rng_feed
        if feed is None:
            return {}
        # The step alone would give a counter that stands still the same numbers again
        return {feed: group_key(self.options.seed, self._step, self._cycles, self._phase)}

    def _advance(self) -> None:
        counter = self.graph.step
        if counter is None:
            self._step += self._phase == 0
        elif counter.increment is not None and len(self._cycle) == 1:
            self._step += counter.increment
        else:
            self._step = int(
                self._snapshot.read(self._group.session, [counter.variable])[counter.variable]
            )
