"""What does the journal say of the group: how it's formed, what it starts from, why it's broken up?

Rule: one class a kind of event; the fields stand in the order of the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from orchestrator.journal.event import JournalEvent


@dataclass(frozen=True, kw_only=True)
class WaitingForWorkers(JournalEvent):
    """There are too few workers to form a group.

    Attributes:
        longest_s: seconds until the run gives up.
    """

    WORD: ClassVar[str] = "waiting"

    reason: str
    longest_s: float


@dataclass(frozen=True, kw_only=True)
class Gathering(JournalEvent):
    """The group is broken up at a step boundary, to be formed anew."""

    WORD: ClassVar[str] = "gathering"

    reason: str
    generation: int
    step: int


@dataclass(frozen=True, kw_only=True)
class ProcessesUsedUp(JournalEvent):
    """The members' processes can't join another group (NCCL); others take their ranks."""

    WORD: ClassVar[str] = "processes_used_up"

    workers: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class GenerationFormed(JournalEvent):
    """A group is told to meet.

    Attributes:
        generation: its number, never used twice.
        step: the global step that its state is of.
        position: batches that the whole group consumed before that step.
        workers: the members in the order of their ranks.
        donor: the worker whose state the others take; null where they read the checkpoint.
        state_from: donor or checkpoint.
        catching_up: members that lack only the last step's result.
        redone: steps that have to be done again.
        effective_batch: examples in a step; null where it isn't known.
        reason: start, why a new group was planned, or the kind of the incident.
    """

    WORD: ClassVar[str] = "generation"
    AT_ONCE: ClassVar[bool] = True

    generation: int
    step: int
    position: int
    world_size: int
    workers: tuple[str, ...]
    donor: str | None
    state_from: str
    catching_up: tuple[str, ...]
    redone: int
    effective_batch: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class JoinFailure(JournalEvent):
    """A member that lives couldn't join its group.

    Attributes:
        obstacle: passing, damaged, missing, store or misfit.
    """

    WORD: ClassVar[str] = "join_failed"

    worker: str
    rank: int | None
    reason: str
    obstacle: str
    generation: int


@dataclass(frozen=True, kw_only=True)
class TrainingBegan(JournalEvent):
    """All members have met and hold the state; from here on steps are taken."""

    WORD: ClassVar[str] = "training"
    AT_ONCE: ClassVar[bool] = True

    generation: int
    step: int
    world_size: int


@dataclass(frozen=True, kw_only=True)
class RowsMoved(JournalEvent):
    """Rows of divided tables have gone from members' memory to others' as their group was formed.

    Attributes:
        generation: the group's number.
        givers: who has given some.
        takers: who has taken some.
        rows: of all tables together, each counted once for each who took it.
        size_bytes: slots included.
    """

    WORD: ClassVar[str] = "rows_moved"

    generation: int
    givers: tuple[str, ...]
    takers: tuple[str, ...]
    rows: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class WorkersAdopted(JournalEvent):
    """A new driver goes on with workers that outlived the one before.

    Attributes:
        workers: all that live.
        members: those of the group, in the order of their ranks.
        generation: the group's newest.
        complete: whether the whole group lives and trains on.
    """

    WORD: ClassVar[str] = "adopted"

    workers: tuple[str, ...]
    members: tuple[str, ...]
    generation: int
    complete: bool
    step: int

    @property
    def seats(self) -> tuple[str, ...]:
        """The group's members; journals before ``members`` was told held everybody for one."""
        return self.workers if self.lacks("members") else self.members


@dataclass(frozen=True, kw_only=True)
class ReformPlanned(JournalEvent):
    """The group will be formed anew at a step boundary.

    Attributes:
        boundary: that global step.
    """

    WORD: ClassVar[str] = "reform_planned"

    reason: str
    boundary: int


@dataclass(frozen=True, kw_only=True)
class ReformCancelled(JournalEvent):
    """What the group was to be formed anew for is no longer so."""

    WORD: ClassVar[str] = "reform_cancelled"

    reason: str


@dataclass(frozen=True, kw_only=True)
class Growing(JournalEvent):
    """There is room for more workers.

    Attributes:
        workers: how many are started.
        free: how many the cluster has room for.
    """

    WORD: ClassVar[str] = "growing"

    workers: int
    free: int


@dataclass(frozen=True, kw_only=True)
class StepBroken(JournalEvent):
    """A step in which all members wait for each other is made to fail."""

    WORD: ClassVar[str] = "step_broken"

    reason: str


@dataclass(frozen=True, kw_only=True)
class CounterStands(JournalEvent):
    """The graph's own counter of steps stands still though the group trains: the loss's scale is
    searched for, say, or gradients are gathered first. Saves go on by time and position.

    Attributes:
        step: what the counter says.
        position: batches that the whole group has consumed.
        seconds: since the counter last moved.
    """

    WORD: ClassVar[str] = "counter_stands"

    step: int
    position: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RollingBack(JournalEvent):
    """The state isn't finite, or it jumped: the group goes back to the newest good checkpoint.

    Attributes:
        step: the global step that is given up.
        generation: the last one whose states don't count.
    """

    WORD: ClassVar[str] = "rolling_back"
    AT_ONCE: ClassVar[bool] = True

    step: int | None
    generation: int


@dataclass(frozen=True, kw_only=True)
class FindingCheckpoint(JournalEvent):
    """Nobody has the state: the newest good checkpoint is looked for."""

    WORD: ClassVar[str] = "finding_checkpoint"

    reason: str


@dataclass(frozen=True, kw_only=True)
class CheckpointFound(JournalEvent):
    """The checkpoint that the group goes on from.

    Attributes:
        position: batches that the whole group consumed before its step.
    """

    WORD: ClassVar[str] = "checkpoint_found"

    step: int
    position: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class CheckpointBad(JournalEvent):
    """Two formations found a checkpoint damaged; it isn't taken again."""

    WORD: ClassVar[str] = "checkpoint_bad"

    checkpoint: str
    step: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class BackingOff(JournalEvent):
    """The next try waits.

    Attributes:
        seconds: how long.
    """

    WORD: ClassVar[str] = "backing_off"

    seconds: float
    reason: str
