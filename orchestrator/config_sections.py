"""Which keys can a configuration have, under which headings?

Rule: a key stands in one place, with its type, its unit, its default and its meaning; the command
line, ``config --explain`` and the JSON schema are made from that. Every field has a unit in its
type, its name or its description, and a reason where the default isn't obvious. The keys that
concern the graph stand in ``config_graph``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from orchestrator.config_units import Positive, Seconds, Section, Steps, StepsOrNone, Unit, Workers


class WorkersConfig(Section):
    """How many workers, and what each one holds."""

    count: Workers = 1
    """Workers that train (the world size at the start)."""
    min: Workers | None = None
    """Fewest workers that go on training after losses. Default: ``count``; below it the run waits
    for ``wait_s``.
    """
    max: Workers | None = None
    """Most workers that the group grows to when nodes come. Default: ``count``."""
    standby: Annotated[int, Field(ge=0), Unit("workers")] = 0
    """Warm workers without a rank: TensorFlow and the graph are loaded, so a lost rank is back in
    under a second.
    """
    cpus: Annotated[float, Field(gt=0), Unit("CPUs")] = 1
    """CPUs that Ray reserves for each worker."""
    gpus: Annotated[float, Field(ge=0), Unit("GPUs")] = 0
    """GPUs that Ray reserves for each worker; a fraction shares one GPU."""
    memory_bytes: Annotated[int, Field(ge=0), Unit("bytes")] | None = None
    """Memory that Ray reserves for each worker; a save that would go beyond it sends rows of divided
    tables from where they lie. Default: no reservation.
    """

    @model_validator(mode="after")
    def _ordered(self) -> WorkersConfig:
        if not self.smallest <= self.count <= self.largest:
            raise ValueError(
                f"needs min <= count <= max, got {self.smallest}, {self.count}, {self.largest}"
            )
        return self

    @property
    def smallest(self) -> int:
        """The world size below which the run waits."""
        return self.count if self.min is None else self.min

    @property
    def largest(self) -> int:
        """The world size up to which the group grows."""
        return self.count if self.max is None else self.max


class SourceSection(Section):
    heading: ClassVar[str] = "Source"

    source: str
    """A ``.meta`` URL, a checkpoint prefix, or a directory (then its newest good checkpoint). Any
    fsspec URL.
    """
    from_step: StepsOrNone | None = None
    """Start from the directory's checkpoint of this step, instead of its newest good one. What the
    output has saved since goes before it.
    """


class WhereSection(Section):
    heading: ClassVar[str] = "Storage and cluster"

    output: str = ""
    """Directory URL for checkpoints, journal and events. A second run of the same command goes on
    from here.
    """
    address: str | None = None
    """A running Ray cluster (``auto`` or ``HOST:PORT``; for ``submit`` its job server). Default: a
    local Ray of this run's own.
    """


class LengthSection(Section):
    heading: ClassVar[str] = "Training length"

    until_step: StepsOrNone | None = None
    """Global step at which the run ends: the first past it where the graph's own counter leaps."""
    steps: StepsOrNone | None = None
    """Steps to add, counted from the step recorded at the run's first start (a second run of the
    command adds nothing).
    """


class SavingSection(Section):
    heading: ClassVar[str] = "Checkpoints"

    save_steps: Steps | None = None
    """Save every so many steps."""
    save_secs: Seconds | None = None
    """Save every so many seconds. Default: 600 where neither ``save_steps`` nor ``save_secs`` is
    given.
    """
    max_to_keep: Annotated[int, Field(ge=0), Unit("checkpoints")] = 5
    """Newest checkpoints to keep, as ``tf.train.Saver`` has it; 0 keeps all."""
    keep_every_hours: Annotated[float, Field(gt=0), Unit("hours")] = 10000.0
    """Besides, keep one checkpoint for every so many hours of training
    (``keep_checkpoint_every_n_hours``).
    """
    max_failed_saves: Annotated[int, Field(ge=1), Unit("saves")] = 5
    """Saves that may fail in a row before the run stops rather than train on unsaved."""
    save_policy: Literal["skip", "wait"] = "skip"
    """When a save is due while another is still being uploaded: ``skip`` it, or ``wait`` for the
    other.
    """
    save_changed_rows: bool = False
    """Between full checkpoints save of divided tables (``shard_tables``) only the rows that changed
    since the save before. After eight such saves, and at the run's end, a full one is made, which
    alone plain TensorFlow reads.
    """
    on_nonfinite: Literal["stop", "rollback", "ignore"] = "stop"
    """What to do when a float variable or the watched loss isn't finite at a save."""
    on_outlier: Literal["warn", "stop", "rollback"] = "warn"
    """What to do when a variable or slot grew by more than ``outlier_factor`` against the last
    checkpoint: ``warn`` and commit, or refuse the save and ``stop``, or go back to that checkpoint.
    """
    outlier_factor: Annotated[float, Field(gt=1)] = 1000.0
    """By how much a weight may grow between two checkpoints; what isn't trained (slots, moving
    averages) by its square.
    """


class WorkersSection(Section):
    heading: ClassVar[str] = "Workers"

    workers: WorkersConfig = WorkersConfig()
    """A number, or ``{count, min, max, standby, cpus, gpus}``."""
    batches_per_step: Positive | None = None
    """Batches that make one step, however many workers share them. Default: the workers at the
    run's first start; recorded there.
    """
    gradient_scale: Literal["auto", "mean", "sum"] | None = None
    """How the gradients of a step's batches are combined: their ``mean``, their ``sum``, or
    (``auto``) the sum where the loss is known to sum over rows, so that the group computes what one
    process with all rows would. Default: auto at the run's first start; recorded there.
    """
    weight_by: str | None = None
    """A scalar tensor of the graph that counts what a batch's gradients are a mean over (the sum of
    a mask, tokens, rows): means over batches count each by it. Default: all count the same; recorded
    at the run's first start.
    """
    shard_tables: list[str] = Field(default_factory=list)
    """Divide tables that are only looked up and updated by row among the workers, each of which then
    holds some rows and their slots: names of tables, ``auto`` for those that don't fit into a worker,
    or ``none``. Every batch computes the same bits as with whole tables. Default: as at the run's
    first start, and ``none`` there.
    """
    table_copies: Annotated[Literal[1, 2] | None, Unit("workers")] = None
    """Workers that hold each row of a divided table: with 2 the loss of one takes nobody back, and
    each worker needs room for twice the rows; with 1 it takes all back to the newest checkpoint.
    Default: as at the run's first start, and 1 there.
    """
    prove: bool | None = None
    """Try on the first batches, before a group's first step, whether it computes what one process
    with all rows would; where it doesn't, nothing starts. Default: once, at a run's first start with
    several batches a step; `check` does it only where asked.
    """
    accept_differences: bool = False
    """Train in a group although the proof found that it computes something else than one process
    with all rows; every status and report says so.
    """
    exchange: Literal["auto", "host", "nccl"] = "auto"
    """How workers exchange gradients: ``host`` (in host memory, everywhere; ``auto`` takes it) or
    ``nccl`` (each worker a GPU of its own; not yet run on two GPUs, and other workers reach
    TensorFlow's own unprotected port).
    """
    on_loss: Literal["replace", "shrink", "wait"] = "replace"
    """When a worker is lost and no standby is ready: ``replace`` (go on with fewer and start
    another), ``shrink`` (go on with fewer for good), or ``wait`` for another.
    """
    on_resize: Literal["keep", "scale_lr", "wait"] = "keep"
    """When the group's size changes: ``keep`` the learning rate, ``scale_lr`` to scale it where
    ``batches_per_step`` isn't that of the first start, or ``wait`` for workers.
    """
    scale_lr_feed: str | None = None
    """With ``on_resize: scale_lr``, the fed tensor that holds the learning rate, such as
    ``learning_rate:0``.
    """
    wait: bool = False
    """Wait for the cluster to have room instead of refusing."""
    wait_s: Seconds = 1800.0
    """Longest wait for room, at the start or below ``workers.min``, and for a store that doesn't
    answer.
    """
    hang_floor_s: Seconds = 5.0
    """A worker is never called hung before so many seconds without a step, however fast its steps
    are; to be raised where a step may rightly stand still for minutes. Who copies or fetches state is judged by the bytes that move.
    """
    orphan_timeout_s: Seconds = 120.0
    """A worker that no driver has spoken to for so long ends itself, so that no GPU is held for
    ever.
    """
    max_losses_per_hour: Annotated[int, Field(ge=1), Unit("losses")] = 60
    """Unplanned worker losses within an hour before the run stops; those within ten seconds count
    as one, preemptions not at all.
    """
    lease_s: Seconds = 30.0
    """The driver's hold on the output expires after so many seconds without a heartbeat."""


class InputsSection(Section):
    heading: ClassVar[str] = "Input"

    input: str | None = None
    """``module:function`` (or ``path/file.py:function``) with ``batches(ctx) ->
    Iterator[Mapping[str, ndarray]]``.
    """
    feed: dict[str, str] = Field(default_factory=dict)
    """Constant feeds, tensor name to value, such as ``keep_prob:0=0.5``. Lists are written as JSON.
    """
    array: dict[str, str] = Field(default_factory=dict)
    """Feeds from arrays, tensor name to URL: ``x:0=gs://b/train.npz#images``, or an ``.npy`` file.
    """
    batch_size: Annotated[int, Field(ge=1), Unit("rows")] | None = None
    """Rows of each array that one worker gets in one step."""
    shuffle: bool = True
    """Shuffle the rows of arrays anew in each epoch, by ``seed``."""
    input_map: dict[str, str] = Field(default_factory=dict)
    """Replace a tensor of the graph by another source: tensor name to a key that the input function
    or feed supplies.
    """
    path_map: dict[str, str] = Field(default_factory=dict)
    """File names inside the graph that moved: old prefix to new prefix (any fsspec URL; staged on
    each node).
    """
    py_func: dict[str, str] = Field(default_factory=dict)
    """Give a ``py_func`` its Python function back: token to ``module:function``."""
    import_modules: list[str] = Field(default_factory=list)
    """Python modules that every worker imports first."""


SLACK_HOSTS = frozenset({"hooks.slack.com", "hooks.slack-gov.com"})
"""Whose webhooks take ``{"text": ...}`` alone, and whose URLs are secrets."""


class ReportingSection(Section):
    heading: ClassVar[str] = "Reproducibility and reporting"

    seed: int = 0
    """Seeds shuffling and every random operation of the graph."""
    deterministic: bool = False
    """Bit-identical results between runs: one TensorFlow thread pool thread and deterministic
    kernels (slower).
    """
    tensorboard: bool = True
    """Write TensorBoard events into the output."""
    notify: list[str] = Field(default_factory=list)
    """Post each incident and the run's end to a webhook: its URL, or ``env:NAME`` for the variable
    that holds it (Slack's URLs are secrets). Slack gets its own format, others JSON.
    """
    callback: list[str] = Field(default_factory=list)
    """Pass the run's curves and events to a tracker: ``mlflow``, ``wandb``, or what another package
    brings as an entry point of ``tfresume.callbacks``.
    """
