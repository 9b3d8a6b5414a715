"""What does one step of a cut graph compute from this state, with these batches as its slots?

Rule: the phases and the sums are the group's own (``host.phases``, ``host.combining``), on one
process, so that what is seen here is what a group does. Every step starts from the same state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.graph.worker_graph import DenseSeam, SparseSeam, TrainTarget, WorkerGraph
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.session_config import prepare_process
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.group.over_sockets import OverSockets
from orchestrator.training.group.summation import Accumulator
from orchestrator.training.group.wires import Wires
from orchestrator.training.host import combining
from orchestrator.training.host.contribution import Contribution
from orchestrator.training.host.phases import Phases
from orchestrator.training.host.seams import Level, Seams
from orchestrator.training.importing.import_graph import import_graph
from orchestrator.training.proof.patterns import by_index, wide
from orchestrator.training.proof.statistics import written_from
from orchestrator.training.state.restoring import load
from orchestrator.training.state.snapshot import Snapshot
from orchestrator.training.state.state import State
from orchestrator.training.step.stepping import Shown, StepRunner

Feeds = Mapping[str, np.ndarray]
Rows = dict[int, np.ndarray]
"""Index to the sum of its rows."""


@dataclass(frozen=True)
class SeamSeen:
    """A seam of the graph.

    Attributes:
        tensor: what was cut there.
        feeds: the placeholders of its value, or of its values and indices.
        summed: the group adds up there, else it takes the mean.
    """

    seam: DenseSeam | SparseSeam
    tensor: str
    feeds: tuple[str, ...]
    summed: bool

    @property
    def role(self) -> str:
        """``gradient`` or ``update``."""
        return self.seam.role if isinstance(self.seam, DenseSeam) else "gradient"


@dataclass(frozen=True)
class Taken:
    """What a step made.

    Attributes:
        seams: for each run of the cycle and seam, what stood there after the exchange: an array, or
            the rows by index.
        variables: their values after the step, by name, without local ones.
    """

    seams: dict[tuple[int, str], np.ndarray | Rows]
    variables: dict[str, np.ndarray]


class Stand:
    """One imported graph that is tried out.

    Args:
        options: as the workers have them.

    Raises:
        OrchestratorError: as a worker would when it imports the graph.
    """

    def __init__(self, graph: WorkerGraph, options: TrainingOptions) -> None:
        prepare_process(options)
        self._graph, self._options = graph, options
        self.imported: Any = import_graph(graph, options)
        self._snapshot = Snapshot(self.imported, graph)
        self._runner = StepRunner(graph, self.imported, options)
        seams = Seams(self.imported, graph.targets, options.gradient_scale, graph.weight)
        # Losses and summaries would be computed for nobody
        nothing = [Shown((), ())] * len(graph.targets)
        self._phases = Phases(graph, seams, nothing)
        self._session = LiveSession(self.imported, options)
        # A group of one: the exchange adds up the slots without any connection
        self._mesh = OverSockets(Wires(0, 1, {}))
        self.local = frozenset(variable.name for variable in graph.variables if variable.local)
        self.seams = {
            target: [_seen(seam, seams) for seam in every_seam(each) if not self._is_metric(seam)]
            for target, each in enumerate(graph.targets)
        }
        self.cycle = graph.cycle

    def _is_metric(self, seam: DenseSeam | SparseSeam) -> bool:
        if not isinstance(seam, DenseSeam) or seam.role == "gradient":
            return False
        # Metrics of the training (``tf.metrics``) count in local variables, which no save holds and
        # which ranks may differ in
        written = written_from(self.imported.get_operation_by_name(seam.node))
        return bool(written) and written <= self.local

    def load(self, prefix: str, *, init_missing: bool) -> State:
        """The state to start from. Raises as ``Trainer.load_checkpoint``."""
        return load(
            self._graph,
            self.imported,
            self._snapshot,
            self._options,
            prefix,
            init_missing=init_missing,
        )

    def checked(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """A user's batch as the graph takes it. Raises UserCodeError."""
        return self._runner.checked(batch)

    def step(
        self,
        start: State,
        batches: Sequence[Feeds],
        *,
        applied: int = -1,
        applied_batch: Feeds | None = None,
    ) -> Taken:
        """One step from ``start`` with a batch for each slot.

        Args:
            applied: the slot whose batch is fed when the result is applied; each worker feeds one
                of its own.
            applied_batch: fed then instead.

        Raises:
            OrchestratorError, or what TensorFlow raises out of a run.
        """
        self._snapshot.restore(self._session, start)
        seen: dict[tuple[int, str], np.ndarray | Rows] = {}
        for run, target in enumerate(self.cycle):
            result: dict[str, np.ndarray] = {}
            for number, level in enumerate(self._phases.levels(target)):
                result.update(self._exchanged(target, number, level, batches, result))
            # Copies: the exchange uses its memory again
            seen.update({(run, each.tensor): _value(each, result) for each in self.seams[target]})
            last = batches[applied] if applied_batch is None else applied_batch
            feeds = {**self._runner.fed(target, last), **result}
            self._phases.apply(self._session, target, feeds, summaries=False)
        variables = self._snapshot.read_all(self._session)
        return Taken(seen, {key: each for key, each in variables.items() if key not in self.local})

    def _exchanged(
        self,
        target: int,
        number: int,
        level: Level,
        batches: Sequence[Feeds],
        before: Mapping[str, np.ndarray],
    ) -> dict[str, np.ndarray]:
        slots = len(batches)
        mine = Contribution(Accumulator(slots))
        for slot, batch in enumerate(batches):
            feeds = {**self._runner.fed(target, batch), **before}
            mine.like = self._phases.compute(self._session, target, number, feeds, summaries=False)
            mine.add(slot, mine.like)
        dealt = [frozenset(range(slots))]
        fed, _ = combining.combined(self._mesh, level, mine, dealt, slots, (), number)
        return fed

    def close(self) -> None:
        """End the session."""
        self._session.close()


def every_seam(target: TrainTarget) -> list[DenseSeam | SparseSeam]:
    """All seams of a train operation."""
    return [*target.dense, *target.sparse]


def _seen(seam: DenseSeam | SparseSeam, seams: Seams) -> SeamSeen:
    nodes = [seam.node] if isinstance(seam, DenseSeam) else [seam.values_node, seam.indices_node]
    opened = [seams.openings[node] for node in nodes]
    return SeamSeen(seam, opened[0].fetch, tuple(each.feed for each in opened), opened[0].summed)


def _value(seam: SeamSeen, result: Mapping[str, np.ndarray]) -> np.ndarray | Rows:
    values, *indices = (result[feed] for feed in seam.feeds)
    return by_index(values, indices[0]) if indices else wide(values)
