"""How does one worker train one graph, step by step, in one group after another?

Rule: a step happens as a whole or not at all, and what it computes doesn't depend on what failed
before it, nor on how many workers share it. The session and its variables stay through all groups;
a worker that was a member goes on from what it has::

    Trainer ─► assign ─► join ─► step … step ─► state
                          ▲          │ PeerLost
                          └──────────┘

Threads: ``join``, ``assign``, ``meet``, ``step``, ``place_inputs``, ``pull`` and ``close`` belong
to one thread. Any other thread may call ``abandon`` and the properties at any time, and ``state``,
which waits for a phase that writes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.errors import CorruptCheckpoint, CorruptState, PeerLost, UserCodeError
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
from orchestrator.training.state.save_copy import SaveCopy
from orchestrator.training.state.snapshot import Snapshot
from orchestrator.training.state.state import State, StepOutput
from orchestrator.training.state.table_blocks import StoredRows
from orchestrator.training.state.written_rows import Save
from orchestrator.training.step.course import Course
from orchestrator.training.step.groups import Batch, Group
from orchestrator.training.step.held_rows import HeldRows
from orchestrator.training.step.readiness import get_ready
from orchestrator.training.step.stepping import StepRunner


class Trainer:
    """One imported graph in one session.

    Args:
        graph: the rewritten graph and what it needs.
        options: what holds for all generations.
        secret: what only members of the run know; peers prove it to each other.

    Attributes:
        rows: of divided tables, to give to others and to take from them.

    Raises:
        ConfigError: a module or library that the options name can't be loaded.
        GraphMismatch: this TensorFlow can't import the graph.
    """

    def __init__(self, graph: WorkerGraph, options: TrainingOptions, secret: bytes = b"") -> None:
        prepare_process(options)
        self.graph = graph
        self.options = options
        self._imported = import_graph(graph, options)
        self._snapshot = Snapshot(self._imported, graph, gpu=options.gpu)
        self._runner = StepRunner(graph, self._imported, options)
        self._writing = threading.RLock()
        self._group: Group = open_group(
            graph, self._imported, options, self._runner, secret, self._writing
        )
        self._copy = SaveCopy(self._snapshot, options, self._group.written)
        self._inputs = LiveInputs(graph, self._imported, options)
        self._course = Course(graph, options, self._group, self._snapshot)
        self.rows = HeldRows(graph, self._snapshot, self._group, self._course, self._writing)
        self._assigned = False
        self._carried: State | None = None
        """The state, while it's between the session of one group and that of the next."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the state, as far as they are known without reading it."""
        return self._snapshot.size_bytes

    @property
    def share(self) -> tuple[int, int] | None:
        """Rank and world size of which this worker's rows of divided tables are; None where it has
        none.
        """
        return self._course.share

    @property
    def agrees(self) -> bool:
        """Whether ``meet`` compares what the members have read, before any of it counts."""
        return bool(self.graph.tables)

    @property
    def position(self) -> int:
        """Batches that the whole group has consumed."""
        return self._course.position

    @property
    def turns(self) -> tuple[int, ...]:
        """The numbers of this rank's batches in the next step; ``step`` takes one batch for each."""
        return self._course.turns

    @property
    def runs(self) -> int:
        """Runs of the next step's cycle that are done already; 0 between two steps."""
        return self._course.phase

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
        """Where peers reach this worker: for ``GroupSpec.addresses``, and for the process's life."""
        return self._group.address

    def join(self, group: GroupSpec) -> None:
        """Leave the old group and belong to ``group``. The variables stay as they are; ``assign``
        sets them where they aren't the group's.

        Raises GraphRefused where the graph can't be trained by more than one worker.
        """
        carried = self._carried = (
            None if self._group.keeps_variables or not self._assigned else self.state()
        )
        self._group.join(group)
        if carried is not None:
            self.assign(carried)
            self._carried = None
        self._course.join(group)

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
        self,
        prefix: str,
        *,
        init_missing: bool = False,
        of_source: bool = True,
        rows: StoredRows | None = None,
    ) -> State:
        """The state that a checkpoint on local disk holds.

        Args:
            prefix: path without ``.index`` (V2 format), or the file itself (V1 format).
            init_missing: run the graph's initialisers for needed variables that the checkpoint
                lacks. They may call Python: let one rank load for all where tables are whole.
            of_source: as ``restoring.load`` takes it; it raises what that raises.
            rows: of divided tables; their variables are set at once.
        """
        of = (self.graph, self._imported, self._snapshot, self.options, prefix, init_missing)
        with self._writing:
            return load(*of, of_source, None if rows is None else (rows, self._group.session))

    def assign(self, state: State) -> None:
        """Make ``state`` this session's; its tables and local variables are initialised before
        that, once per session.

        Raises GraphMismatch where a name or a shape isn't the graph's, UserCodeError where an
        initialiser of the graph failed (a vocabulary file that isn't there).
        """
        with self._writing:
            self._group.forget(state)
            try:
                self._snapshot.restore(self._group.session, state)
            except tf.errors.OpError as error:
                raise failures.user_error(
                    error, "the graph's initialisers failed", step=state.step
                ) from error
            self._course.set(state)
            self._assigned = True

    def state(self) -> State:
        """A copy of all that training changes, in host memory; between steps it's the last one's."""
        if self._carried is not None:
            return self._carried
        with self._writing:
            return self._course.state_of(self._snapshot.read_all(self._group.session))

    def state_for_save(self, save: Save = (0, 0), over: Save | None = None) -> State:
        """What ``state`` gives as ``SaveCopy.take`` copies it, in memory that it overwrites next."""
        with self._writing:
            of = (self._group.session, self._group.spec, save, over, self.share or (0, 1))
            return self._course.state_of(*self._copy.take(*of))

    def meet(self, *, timeout_s: float | None = None) -> bool:
        """Wait until every rank of the group has come. ``step`` does that too, before a group's
        first one; later there's nothing to wait for.

        A member that was cut off when its peers had a step's result already takes it from them
        here, and is as far as they are. True says so.

        Raises:
            PeerLost: a rank is gone or didn't come in time.
            CorruptState: the result that was lacked arrived damaged.
            CorruptCheckpoint: what the ranks have read together isn't what was saved.
        """
        try:
            took = self._group.meet(timeout_s)
            if took:
                self._course.finish_run()
        except (PeerLost, CorruptState, CorruptCheckpoint, UserCodeError):
            self.abandon()
            raise
        return took

    def step(self, batches: Sequence[Mapping[str, Any]]) -> StepOutput:
        """Take one step: all train operations of a cycle, nearly always one.

        Args:
            batches: for each of ``turns``, input name or tensor name to value.

        Raises:
            PeerLost: a peer is gone or has abandoned the group: join a new one, take it again.
            UserCodeError: the feeds or an operation of the graph are wrong; peers see PeerLost.
                Nothing changed here in either case.
        """
        self.meet()
        try:
            checked = [
                Batch(number, self._runner.checked(feeds))
                for number, feeds in zip(self.turns, batches, strict=True)
            ]
            return self._course.take(checked)
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

        For the input's end, errors outside the graph, and losses that this worker is told of; with
        ``generation`` only where the group is that one's, for calls that may come late.
        """
        self._group.abandon(generation)

    def close(self) -> None:
        """End the session and the graph's own input threads."""
        with self._writing:
            self._inputs.close()
            self._group.close()
