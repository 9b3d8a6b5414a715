"""What does a worker need to know about a graph in order to train it?

Rule: all graph surgery happens on protos before TensorFlow sees them. A worker imports
``WorkerGraph.meta`` as it is, and everything else that it needs (what to run, what to feed, where
the gradients pass, what the state is) stands here by name. Plain data that pickles; no protos, no
TensorFlow.

The shape of the rewritten graph::

    forward, tf.gradients           writers that had stood before the gradients by control edges
          │                                           ▲
          ▼ gradient                                  │
    [seam: Identity] ── the exchange of training/ goes between the gradient and this Identity
          │ mean or sum of the group                  │
          ├──────────────► [barrier: NoOp] ───────────┤   after every seam, before every writer of
          state ▼                                           │
    clipping, optimizer ──► Apply*, Assign*, Scatter* ◄┘
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from orchestrator.graph.batch_scale import NOT_ASKED, BatchScale
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.graph.worker_pipelines import LivePipeline, LiveQueue, PythonFunction
from orchestrator.graph.worker_tables import NO_TABLES, ShardedTables

Shape = tuple[int | None, ...] | None
"""A static shape: None for an unknown dimension, None as a whole for an unknown rank."""

STEP_FEED = "tfresume/rng:0"
"""int64 ``[2]``: what keys the stateless random operations of one step, from (seed, rank, global
step). Absent without random ops.
"""

GROUP_STEP_FEED = "tfresume/group_rng:0"
"""int64 ``[2]``: as ``STEP_FEED``, but from (seed, global step) alone: for what all ranks must draw
alike, such as gradient noise.
"""


@dataclass(frozen=True)
class Variable:
    """One variable node of the graph.

    Attributes:
        name: node name, import scope included.
        kind: ``ref`` (Variable, VariableV2) or ``resource`` (VarHandleOp).
        dtype: lower-case name as in NumPy and ml_dtypes (``float32``, ``bfloat16``, ``string``,
            ``int64``).
        initializer: name of the operation that initialises it, None where the graph has none.
        key: its key in a checkpoint of the source's saver, None where that saver doesn't hold it.
        slice_spec: as ``SaveV2`` takes it (``"8 4 0,4:-"`` for a part of a partitioned variable),
            else ``""``.
        saved_shape: shape of the whole partitioned variable where ``slice_spec`` is set.
        trainable: in the trainable collection, or updated by an optimizer where the collection is
            gone.
        local: in the local collection and in no other (metrics, epoch counters): initialised, not
            restored.
        slot_of: the variable whose optimizer slot this is.
        needed: the train targets read or write it.
    """

    name: str
    kind: Literal["ref", "resource"]
    dtype: str
    shape: Shape
    initializer: str | None = None
    key: str | None = None
    slice_spec: str = ""
    saved_shape: Shape = None
    trainable: bool = False
    local: bool = False
    slot_of: str | None = None
    needed: bool = True


@dataclass(frozen=True)
class SaverEntry:
    """A saver entry that isn't a plain variable: a lookup table, an iterator's state.

    ``save_tensor`` is fetched at a save; at a restore ``restore_tensor`` (an output of RestoreV2)
    is fed and ``restore_op`` run.
    """

    key: str
    slice_spec: str
    dtype: str
    save_tensor: str
    restore_tensor: str
    restore_op: str


@dataclass(frozen=True)
class DenseSeam:
    """A dense tensor to be replaced by the group's mean, or its sum.

    Attributes:
        node: name of the Identity node; its input 0 is the local value, its consumers want the
            group's.
        role: ``gradient``, or ``update`` for the input of a non-gradient float update (moving
            averages, counts).
        scale: what the gradient is of; for an update what it takes is itself.
    """

    node: str
    dtype: str
    shape: Shape
    role: Literal["gradient", "update"] = "gradient"
    scale: BatchScale = NOT_ASKED


@dataclass(frozen=True)
class SparseSeam:
    """IndexedSlices to be replaced by the concatenation over slots, values divided by their number
    where the group takes the mean.

    Attributes:
        values_node, indices_node: Identity nodes over values ``[rows, *row_shape]`` and indices
            ``[rows]``.
    """

    values_node: str
    indices_node: str
    dtype: str
    index_dtype: str
    row_shape: Shape
    scale: BatchScale = NOT_ASKED


@dataclass(frozen=True)
class TrainTarget:
    """One operation that a step runs.

    Attributes:
        op: the operation to run; its closure holds optimizer updates, moving averages and the step.
        ratio: how often it runs in one cycle of all targets.
        dense, sparse: the seams among its ancestors; empty where the graph runs on one worker only.
        barrier: name of the NoOp after all its seams and before all its writers; None without
            seams.
    """

    op: str
    ratio: int = 1
    dense: tuple[DenseSeam, ...] = ()
    sparse: tuple[SparseSeam, ...] = ()
    barrier: str | None = None
    updates: tuple[str, ...] = ()
    """Names of the variables that it writes."""


@dataclass(frozen=True)
class InputPort:
    """A tensor that a step must be fed.

    Attributes:
        tensor: what to feed in the rewritten graph.
        name: what users call it: the tensor's name in the original graph (``x:0``,
            ``IteratorGetNext:1``), or the key of ``input_map``.
        origin: ``placeholder``; ``queue`` or ``iterator`` where the batch comes out of the graph's
            own pipeline; ``input_map``.
        pull: for a live queue or iterator, the tensor to fetch on the host to get the value; None
            where the user supplies it.
        optional: a placeholder with a default.
        targets: indices into ``WorkerGraph.targets`` that need it.
    """

    tensor: str
    name: str
    dtype: str
    shape: Shape
    origin: Literal["placeholder", "queue", "iterator", "input_map"] = "placeholder"
    pull: str | None = None
    optional: bool = False
    targets: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class StepCounter:
    """Where the number of the step is kept in the graph.

    Attributes:
        variable: node name of a scalar variable that holds whole numbers, as integer or as float.
        increment: by how much one run of the target adds; None where it isn't a constant.
    """

    variable: str
    increment: int | None = 1


@dataclass(frozen=True)
class WorkerGraph:
    """A graph, ready to train.

    Attributes:
        meta: the rewritten MetaGraphDef, serialized. It imports as it is.
        original_meta: what is saved beside every checkpoint: the source's graph with repairs only,
            no exchange, no devices cleared.
        repairs: each repair of ``original_meta`` in words; empty where it's the source's graph byte
            for byte.
        targets: what a step runs. With several, one cycle of the ratios is ``targets[0]`` ratio
            times, then ``targets[1]`` ….
        inputs: what has to be fed for the targets.
        variables: every variable node of the graph.
        saver_entries: what the source's saver holds besides plain variables.
        step: the graph's global step, None where it has none (then a counter is kept outside).
        losses: tensors to show, from ``watch``, the losses collection, or what the gradients are of.
        scalar_summaries: (tag, tensor) of scalar summaries whose inputs need nothing that the
            targets don't need.
        table_initializers: operations that fill lookup tables.
        local_initializers: operations that initialise local variables.
        pipeline_initializers: operations that initialise live iterators.
        queue_runners: (queue name, enqueue ops, close op, cancel op) of live queues.
        random_nodes: nodes turned into their stateless form; ``stateful_random`` those without one.
        group_refused: why this graph runs on one worker only; empty where it can be cut.
        cut_rule: which rule found the seams (``gradients scope``, ``optimizer inputs``, ``scatter
            updates``, ``none``).
        load_op_library: files with operations of its own, loaded before it's imported.
    """

    meta: bytes
    original_meta: bytes
    targets: tuple[TrainTarget, ...]
    inputs: tuple[InputPort, ...]
    variables: tuple[Variable, ...]
    saver_entries: tuple[SaverEntry, ...] = ()
    step: StepCounter | None = None
    losses: tuple[str, ...] = ()
    scalar_summaries: tuple[tuple[str, str], ...] = ()
    table_initializers: tuple[str, ...] = ()
    local_initializers: tuple[str, ...] = ()
    pipeline_initializers: tuple[str, ...] = ()
    queue_runners: tuple[tuple[str, tuple[str, ...], str, str], ...] = ()
    random_nodes: tuple[str, ...] = ()
    stateful_random: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    group_refused: str = ""
    cut_rule: str = ""
    rng_feed: str | None = None
    """``STEP_FEED`` where the graph has random nodes, else None."""
    group_rng_feed: str | None = None
    """``GROUP_STEP_FEED`` where nodes draw after the gradients (noise added to them), else None."""
    load_op_library: tuple[str, ...] = field(default=())
    pipelines: tuple[LivePipeline, ...] = ()
    """Live dataset pipelines that are shared out by rank; their starters aren't among
    ``pipeline_initializers``.
    """
    queues: tuple[LiveQueue, ...] = ()
    """Live queues that are shared out by rank; what fills them stands in ``queue_runners``."""
    py_funcs: tuple[PythonFunction, ...] = ()
    """Every ``py_func`` of the graph and of its function bodies."""
    weight: str | None = None
    """Tensor that counts what a batch's gradients count by, from ``weight_by``; None where all
    batches count the same.
    """
    remote_paths: tuple[str, ...] = ()
    """URLs among the graph's file names, from ``path_map``: staged on each node before the graph is
    imported.
    """
    edits: tuple[str, ...] = ()
    """Each edit that the user asked for, in words; ``original_meta`` has them."""
    loading: Loading = AS_SAVED
    """How the source's checkpoint is read at the run's first start."""
    run_batches: tuple[int, ...] = (0,)
    """For each run of ``cycle``, which of the step's batches of a slot it takes, counted from 0."""
    tables: ShardedTables = NO_TABLES
    """Tables of which each worker holds a block of rows; ``meta`` and ``variables`` say nothing of
    how many.
    """

    @property
    def cycle(self) -> tuple[int, ...]:
        """Numbers of the targets, as a step runs them one after the other."""
        return tuple(
            number for number, target in enumerate(self.targets) for _ in range(target.ratio)
        )

    @property
    def batches_per_slot(self) -> int:
        """Batches of each slot that one step takes."""
        return max(self.run_batches) + 1
