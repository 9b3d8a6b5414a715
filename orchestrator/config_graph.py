"""Which keys say what graph is trained, and how it is edited before?

Rule: as in ``config_sections``: a key stands in one place, with its type, its default and its
meaning. An edit says how it is undone.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orchestrator.config_units import Positive, Section, StepsOrNone


class GraphSection(Section):
    heading: ClassVar[str] = "Graph"

    meta: str | None = None
    """A ``.meta`` other than the checkpoint's own: the graph to train (any fsspec URL, binary or
    text).
    """
    drop_collection: list[str] = Field(default_factory=list)
    """Collections to leave out of the imported graph, as ``restore_collections_predicate`` does."""
    train_op: list[str] = Field(default_factory=list)
    """Operations to run each step, in order, each ``NAME`` or ``NAME:RATIO``. Default: the graph's
    one train op.
    """
    cycle_batches: Literal["own", "same"] = "own"
    """What the runs of a step's several train ops are fed: each batches of its ``own``, or all of a
    step the ``same``. A run that needs no rows takes none.
    """
    watch: list[str] = Field(default_factory=list)
    """Tensors to show as the loss. Default: the graph's ``losses`` collection, else what the
    gradients are of, else a scalar summary that is called a loss.
    """
    clear_devices: bool = True
    """Drop the saved device names, so that every operation goes where this machine has room for it.
    """
    device_map: dict[str, str] = Field(default_factory=dict)
    """Keep or move saved devices: pattern to device, such as ``/job:ps/*=/CPU:0``."""
    import_scope: str | None = None
    """Prefix for all names of the imported graph, as in ``import_meta_graph``."""
    init_missing: bool = False
    """Initialise weights that the checkpoint lacks with the graph's own initialisers. An
    optimizer's slots always are, with a warning.
    """
    load_op_library: list[str] = Field(default_factory=list)
    """Libraries with custom operations that every worker loads."""
    allow_op: list[str] = Field(default_factory=list)
    """Operation types that touch files, run code or open sockets and that you trust in this graph.
    """
    force: bool = False
    """Go on where a check says no and going on can mean something."""


class SurgerySection(Section):
    heading: ClassVar[str] = "Surgery"

    set: dict[str, str] = Field(default_factory=dict)
    """Set a constant of the graph, tensor name to value: ``learning_rate:0=0.001``; a variable or a
    computed scalar, such as a decayed rate, becomes that constant. Undone by leaving it out.
    """
    swap_optimizer: Literal["sgd", "momentum", "adam", "adagrad", "rmsprop"] | None = None
    """Train with another optimizer of TensorFlow 1, at the graph's own learning rate; its slots are
    new, the rest stays. Undone by leaving it out.
    """
    clip_global_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Clip the gradients by their global norm, as ``tf.clip_by_global_norm``."""
    freeze: list[str] = Field(default_factory=list)
    """Variables to hold as they are: a name, a scope, or a pattern such as ``encoder/*``. Neither
    they nor their slots are written. Undone by leaving it out.
    """
    grow: dict[str, Positive] = Field(default_factory=dict)
    """Give a table that is looked up by row more rows, ``VAR=ROWS``; they and those of its slots
    begin as the graph's own initialisers begin. What is saved has them for good.
    """
    rename: dict[str, str] = Field(default_factory=dict)
    """Take the checkpoint's key OLD for the graph's NEW, ``OLD=NEW``; with a slash at the end of
    both, a whole scope. Counts at the run's first start, as the four below.
    """
    restore_only: list[str] = Field(default_factory=list)
    """Take only these variables from the source's checkpoint, and initialise the others; the global
    step is always taken.
    """
    reinit: list[str] = Field(default_factory=list)
    """Initialise these variables, whatever the source's checkpoint holds of them."""
    reset_slots: bool = False
    """Initialise the optimizer's slots, whatever the source's checkpoint holds of them."""
    reset_step: StepsOrNone | None = None
    """Begin at this global step instead of the checkpoint's."""
