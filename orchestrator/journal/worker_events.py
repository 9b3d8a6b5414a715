"""What does the journal say of single workers?

Rule: one class a kind of event; the fields stand in the order of the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from orchestrator.journal.event import LEFT_OUT, JournalEvent


@dataclass(frozen=True, kw_only=True)
class WorkerStarted(JournalEvent):
    """A worker's process is asked for.

    Attributes:
        delay_s: seconds to wait before.
        avoid: nodes on which it isn't started.
        standby: whether it has no rank to take yet.
    """

    WORD: ClassVar[str] = "worker_start"

    worker: str
    delay_s: float
    avoid: tuple[str, ...]
    standby: bool


@dataclass(frozen=True, kw_only=True)
class WorkerWarm(JournalEvent):
    """A worker has TensorFlow and the graph loaded and can take a rank.

    Attributes:
        seconds: from its start until now.
        place: the placement group that it lies in; only where it has GPUs.
        devices: the GPUs that Ray gave it; only where it has some.
    """

    WORD: ClassVar[str] = "worker_warm"

    worker: str
    node: str
    pid: int | None
    seconds: float
    place: str = field(default="", metadata=LEFT_OUT)
    devices: tuple[str, ...] = field(default=(), metadata=LEFT_OUT)


@dataclass(frozen=True, kw_only=True)
class CheckpointStaged(JournalEvent):
    """A worker that the group waited for has fetched the checkpoint.

    Attributes:
        seconds: that it took.
    """

    WORD: ClassVar[str] = "staging"

    worker: str
    node: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class WorkerNotice(JournalEvent):
    """A worker or its node is about to be taken away."""

    WORD: ClassVar[str] = "worker_notice"

    worker: str
    rank: int | None
    node: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class WorkerHung(JournalEvent):
    """A worker neither answers nor moves, and is killed for it."""

    WORD: ClassVar[str] = "worker_hung"

    worker: str
    rank: int | None
    node: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LossOfWorker(JournalEvent):
    """A worker is gone.

    Attributes:
        cause: died, node, hung, error, preempted or released.
        step: the last global step that it finished; null where it took none.
        phase: what the run was doing; "no driver" where it went with the driver.
        spared: whether no retry budget pays for it; only where so.
        exit_code: its process's, negative for a signal; only where it's known.
    """

    WORD: ClassVar[str] = "worker_lost"
    AT_ONCE: ClassVar[bool] = True

    worker: str
    rank: int | None
    node: str | None
    pid: int | None
    cause: str
    reason: str
    step: int | None
    phase: str
    spared: bool = field(default=False, metadata=LEFT_OUT)
    exit_code: int | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True, kw_only=True)
class LossExplained(JournalEvent):
    """What a worker died of that is gone already, since its peers had seen it die.

    Attributes:
        rank: the one that it had.
        cause: as of ``worker_lost``, where died stood till now.
        exit_code: its process's, negative for a signal; only where it's known.
    """

    WORD: ClassVar[str] = "worker_loss_explained"

    worker: str
    rank: int
    cause: str
    reason: str
    exit_code: int | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True, kw_only=True)
class WorkerReleased(JournalEvent):
    """The driver has ended a worker that it needs no more."""

    WORD: ClassVar[str] = "worker_released"

    worker: str
    reason: str
