"""What does the journal say of the run and of its drivers?

Rule: one class a kind of event; the fields stand in the order of the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from orchestrator.journal.event import LEFT_OUT, JournalEvent

OUTER_ATTEMPT = "TFRESUME_OUTER_ATTEMPT"
"""Variable in which whatever starts the driver may say which try of its own this is."""


@dataclass(frozen=True, kw_only=True)
class AttemptBegan(JournalEvent):
    """A driver has taken the run; the first event of its attempt.

    Attributes:
        holder: the driver's name in the lease: host and process.
        pid: its process.
        host: its machine.
        source: the source as it was given, without credentials.
        address: the Ray address as it was given.
        start_step: the global step that it goes on from.
        until: the global step at which the run ends.
        resumed_from: the checkpoint that it goes on from; null where it adopts workers.
        adopted: whether it goes on with workers of the driver before.
        config: the run's settings, without credentials.
        versions: of tfresume, Ray, TensorFlow and Python.
        batches_per_step: batches that make up one step; null where each worker gives one.
        outer_attempt: which try of its own whatever started the driver says that this is: the
            cluster that KubeRay built for it, JobSet's number of restarts; "" where nothing does.
            A hint for people: which driver may write is told by the lease alone.
        proof: whether a group computes what one process would: ``verdict`` (equal, "same batch",
            differs or unproved) and ``told``, a line for people; null where nothing was tried.
        edits: what the graph that is trained differs in from the source's, as the flags ask.
    """

    WORD: ClassVar[str] = "attempt"
    AT_ONCE: ClassVar[bool] = True

    holder: str
    pid: int
    host: str
    source: str
    address: str | None
    start_step: int
    until: int
    resumed_from: str | None
    adopted: bool
    config: Mapping[str, Any]
    versions: Mapping[str, Any]
    batches_per_step: int | None
    proof: Mapping[str, Any] | None
    outer_attempt: str = field(default="", metadata=LEFT_OUT)
    edits: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Warned(JournalEvent):
    """Something that a person should know; the run goes on."""

    WORD: ClassVar[str] = "warning"

    reason: str


@dataclass(frozen=True, kw_only=True)
class DriverPaused(JournalEvent):
    """The driver itself stood still (a suspended machine, say), so nobody's silence counts.

    Attributes:
        seconds: how long it stood still.
    """

    WORD: ClassVar[str] = "driver_paused"

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Stopping(JournalEvent):
    """Somebody asked for the end.

    Attributes:
        reason: SIGTERM, SIGINT or "stop request".
        grace_s: seconds that are left for a last save.
        boundary: the global step at which the group stops for it.
    """

    WORD: ClassVar[str] = "stopping"

    reason: str
    grace_s: float | None
    boundary: int


@dataclass(frozen=True, kw_only=True)
class DeadlinePassed(JournalEvent):
    """The run ends without its last save."""

    WORD: ClassVar[str] = "deadline"

    reason: str


@dataclass(frozen=True, kw_only=True)
class UserErrorRaised(JournalEvent):
    """The user's code or graph raised an error that no other worker could avoid.

    Attributes:
        step: the last global step that the worker finished.
    """

    WORD: ClassVar[str] = "user_error"

    worker: str
    rank: int | None
    step: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class InputUsedUp(JournalEvent):
    """A worker's input is used up, so the run ends.

    Attributes:
        step: the last global step that the worker finished.
    """

    WORD: ClassVar[str] = "end_of_data"

    worker: str
    step: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class GaveUp(JournalEvent):
    """The run ends, after a last save where somebody has the state: going on would fail again."""

    WORD: ClassVar[str] = "give_up"

    reason: str


@dataclass(frozen=True, kw_only=True)
class ProgressMade(JournalEvent):
    """How far the run is, every few seconds while it trains.

    Attributes:
        step: the last global step that all workers have finished.
        loss: of rank 0's last batch; null where the graph names none; NaN and infinities as text.
        steps_per_s: global steps per second, 0 while it isn't known.
        values: the watched tensors by name, on rank 0; NaN and infinities as text.
        until: the global step at which the run ends.
        next_save_step: the global step of the next save that steps decide on; null where none do.
        next_save_s: seconds until the next save that the clock decides on; null where it doesn't.
    """

    WORD: ClassVar[str] = "progress"

    generation: int
    step: int
    loss: float | None
    steps_per_s: float
    values: Mapping[str, Any]
    world_size: int
    until: int
    next_save_step: int | None
    next_save_s: float | None


@dataclass(frozen=True, kw_only=True)
class StepsTimed(JournalEvent):
    """What the steps since the last such event spent their time on, every half minute.

    Attributes:
        step: the last global step that all workers have finished.
        ranks: rank to seconds a step by part: ``input`` (waiting for batches), ``compute``,
            ``exchange`` (with the wait for the slowest rank), ``apply``, ``save`` (copying the
            state, or sending it where a copy has no room), ``other`` (between two steps), and ``all`` of them together.
    """

    WORD: ClassVar[str] = "step_times"

    generation: int
    step: int
    ranks: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class IncidentOver(JournalEvent):
    """A disturbance is over: the group has taken a useful step again, or the run has ended.

    Attributes:
        kind: what was lost (died, node, hung, error, preempted or released), driver, "peer lost",
            divergence, "not finite" or outlier.
        rank: that was lost, from 0.
        detected_s: seconds from the first symptom until the driver knew.
        recovered_s: seconds from the first symptom to the first useful step; null where the run
            ended before.
        steps_redone: steps that were done twice.
        action: what the driver did about it.
        world_size_before: workers in the group before.
        world_size: workers in the group after it.
        effective_batch: examples in a step from now on; only where the world size changed.
        on_resize: what becomes of the learning rate; only where the world size changed.
        exit_code: of the process that was lost, negative for a signal; only where it's known.
        losses: disturbances within the last hour that the budget has paid for, this one included;
            of a driver, its restarts. Only where this one counts.
        losses_allowed: how many of them end the run.
    """

    WORD: ClassVar[str] = "incident"
    AT_ONCE: ClassVar[bool] = True

    kind: str
    rank: int | None
    node: str
    worker: str
    detected_s: float | None
    recovered_s: float | None
    steps_redone: int
    action: str
    reason: str
    generation: int
    step: int | None
    world_size_before: int
    world_size: int
    effective_batch: int | None = field(default=None, metadata=LEFT_OUT)
    on_resize: str | None = field(default=None, metadata=LEFT_OUT)
    exit_code: int | None = field(default=None, metadata=LEFT_OUT)
    losses: int | None = field(default=None, metadata=LEFT_OUT)
    losses_allowed: int | None = field(default=None, metadata=LEFT_OUT)

    @property
    def is_passing(self) -> bool:
        """Whether it was over as it began: nothing was disturbed."""
        return self.detected_s == 0.0 and self.recovered_s == 0.0


@dataclass(frozen=True, kw_only=True)
class RunEnded(JournalEvent):
    """The driver ends in order; the last event of its attempt but for a last sign of progress.

    Attributes:
        outcome: done, "end of data", stopped or failed.
        checkpoint_step: the global step of the newest committed checkpoint.
    """

    WORD: ClassVar[str] = "finish"
    AT_ONCE: ClassVar[bool] = True

    outcome: str
    reason: str
    step: int | None
    checkpoint_step: int | None
