"""What does ``tfresume inspect`` report?

Rule: plain data for people and programs alike; ``as_dict`` is the ``--json`` object. Names are the
graph's own, types are NumPy's, shapes have None for what is unknown, sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestrator.graph.external_access import UntrustedOp
from orchestrator.graph.gradients.train_candidates import TrainOp
from orchestrator.graph.problem import Problem
from orchestrator.graph.tables.shares import Shares
from orchestrator.graph.worker_graph import Shape, StepCounter


@dataclass(frozen=True)
class GraphOrigin:
    """Who wrote the graph, for whom.

    Attributes:
        producer, min_consumer: GraphDef versions as saved.
        tensorflow, git: the writer's version texts; empty where the file doesn't say.
        checked_against: the TensorFlow whose operations the report speaks of.
        tags: the graph's SavedModel tags, if any.
        stripped_defaults: attributes at their default were left out when it was saved.
    """

    producer: int
    min_consumer: int
    tensorflow: str
    git: str
    checked_against: str
    tags: tuple[str, ...]
    stripped_defaults: bool


@dataclass(frozen=True)
class VariableEntry:
    """One variable.

    Attributes:
        size_bytes: None where the shape isn't known or elements have no fixed size.
        slot_of: the variable whose optimizer slot it is.
        part_of: key of the whole partitioned variable that it is a part of.
        key: under which a checkpoint of the graph's saver holds it; None where that saver doesn't.
        in_checkpoint: ``yes``, ``no``, ``other shape``, ``other type``; empty without a checkpoint.
        needed: the train ops read or write it.
    """

    name: str
    kind: str
    dtype: str
    shape: Shape
    size_bytes: int | None
    trainable: bool
    local: bool
    slot_of: str | None
    part_of: str | None
    key: str | None
    in_checkpoint: str
    needed: bool


@dataclass(frozen=True)
class OptimizerEntry:
    """Updates of one type under one name scope, and what they update."""

    op_type: str
    scope: str
    variables: tuple[str, ...]


@dataclass(frozen=True)
class InputEntry:
    """Where data enters.

    Attributes:
        origin: ``placeholder``, ``queue``, ``iterator`` or ``reader``.
        needed: a train op that would be run needs it.
        optional: a placeholder with a default.
        fed_by: for a queue the operations that fill it, for an iterator its dataset operations.
        runner: a queue has a queue runner that fills it.
    """

    name: str
    origin: str
    op_type: str
    dtype: str
    shape: Shape
    needed: bool
    optional: bool = False
    fed_by: tuple[str, ...] = ()
    runner: bool = False


@dataclass(frozen=True)
class OutputEntry:
    """A tensor that may be the model's prediction.

    Attributes:
        kind: ``signature``, ``probabilities``, ``logits``, ``value`` (compared with labels, but no
            logits), ``class``, ``end`` (where a computation ends).
        why: what makes it one.
    """

    name: str
    dtype: str
    kind: str
    why: str


@dataclass(frozen=True)
class DeviceEntry:
    """A device as saved, how many nodes name it (in the graph, in function bodies), and where
    they'll go.

    ``becomes`` is empty where TensorFlow places the nodes freely on the worker's own devices.
    """

    device: str
    nodes: int
    function_nodes: int
    becomes: str


@dataclass(frozen=True)
class SaverEntryReport:
    """How the graph's saver writes: format (``V1``, ``V2``, ``LEGACY``), shards, retention, how
    many tensors.
    """

    format: str
    sharded: bool
    max_to_keep: int
    keep_every_hours: float
    variables: int
    others: int
    usable: bool


@dataclass(frozen=True)
class CheckpointComparison:
    """The checkpoint's contents against the graph.

    Attributes:
        tensors: how many keys it holds.
        missing: variables that a run needs and it lacks (initialised or refused), slots first.
        unused: keys that no variable of the graph takes.
        different: variables with another shape or type there, each with both.
    """

    tensors: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    different: tuple[str, ...]


@dataclass(frozen=True)
class Totals:
    """Counts over the whole graph."""

    nodes: int
    functions: int
    function_nodes: int
    op_types: Mapping[str, int]
    variables: int
    variable_bytes: int
    trainable_bytes: int


@dataclass(frozen=True)
class Inspection:
    """Everything that ``tfresume inspect`` tells."""

    source: str
    size_bytes: int
    origin: GraphOrigin
    totals: Totals
    variables: tuple[VariableEntry, ...]
    optimizers: tuple[OptimizerEntry, ...]
    train_ops: tuple[TrainOp, ...]
    chosen_train_ops: tuple[str, ...]
    step: StepCounter | None
    losses: tuple[str, ...]
    inputs: tuple[InputEntry, ...]
    outputs: tuple[OutputEntry, ...]
    devices: tuple[DeviceEntry, ...]
    summaries: tuple[tuple[str, str], ...]
    saver: SaverEntryReport
    checkpoint: CheckpointComparison | None
    collections: Mapping[str, int]
    reaching_out: tuple[UntrustedOp, ...]
    problems: tuple[Problem, ...]
    repairs: tuple[str, ...]
    shares: Shares | None = None
    """What could be divided among workers; None where nothing trains the graph."""

    def as_dict(self) -> dict[str, Any]:
        """The report as ``inspect --json`` prints it."""
        told = asdict(replace(self, shares=None))
        return {**told, "shares": None if self.shares is None else self.shares.as_dict()}
