"""What does the journal say of saves?

Rule: one class a kind of event; the fields stand in the order of the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from orchestrator.journal.event import JournalEvent


@dataclass(frozen=True, kw_only=True)
class SaveAgreed(JournalEvent):
    """The members are told at which step to copy their state.

    Attributes:
        step: that global step.
        writer: the worker that writes the files; of several the first.
    """

    WORD: ClassVar[str] = "save_agreed"

    step: int
    generation: int
    writer: str


@dataclass(frozen=True, kw_only=True)
class SaveCommitted(JournalEvent):
    """A checkpoint is complete: manifest and pointer are written.

    Attributes:
        checkpoint: its label below the output, ``a0001-g0001/NAME-11000``.
        size_bytes: of its files.
        stall_s: seconds that training stood still for it.
        commit_s: seconds that manifest and pointer took.
    """

    WORD: ClassVar[str] = "save_committed"
    AT_ONCE: ClassVar[bool] = True

    step: int
    generation: int
    checkpoint: str
    size_bytes: float | None
    stall_s: float | None
    commit_s: float | None


@dataclass(frozen=True, kw_only=True)
class SaveFailure(JournalEvent):
    """A save failed; another is tried.

    Attributes:
        in_a_row: how many have failed since the last that didn't.
    """

    WORD: ClassVar[str] = "save_failed"

    step: int
    generation: int
    reason: str
    in_a_row: int


@dataclass(frozen=True, kw_only=True)
class SavePostponed(JournalEvent):
    """A save couldn't be made just now; it's tried again, and counts as no failure."""

    WORD: ClassVar[str] = "save_postponed"

    step: int
    generation: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SaveRefused(JournalEvent):
    """The state of a save isn't worth keeping: ranks differ, it isn't finite, or it jumped."""

    WORD: ClassVar[str] = "save_refused"

    step: int
    generation: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class VariableJumped(JournalEvent):
    """A variable or slot grew beyond measure against the last checkpoint. Of many that jumped
    together the twenty that grew most are told.

    Attributes:
        step: the global step of the save that showed it.
        variable: its name in the graph.
        trained: whether gradients change it; false of slots, moving averages and the like.
        largest_before: its largest absolute number at the last checkpoint.
        largest: its largest absolute number now.
        rms_before: the root of the mean of its squares at the last checkpoint.
        rms: the root of the mean of its squares now.
        factor: by how much one of the two might have grown.
    """

    WORD: ClassVar[str] = "variable_jumped"

    step: int
    generation: int
    variable: str
    trained: bool
    largest_before: float
    largest: float
    rms_before: float
    rms: float
    factor: float


@dataclass(frozen=True, kw_only=True)
class SaveLost(JournalEvent):
    """Who was writing a save is gone."""

    WORD: ClassVar[str] = "save_lost"

    step: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SaveCancelled(JournalEvent):
    """A save that was agreed on won't be made."""

    WORD: ClassVar[str] = "save_cancelled"

    step: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SaveSkipped(JournalEvent):
    """A save was due and isn't made."""

    WORD: ClassVar[str] = "save_skipped"

    step: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SaveOwed(JournalEvent):
    """The group saves at once, since a member is about to go and nobody can take over."""

    WORD: ClassVar[str] = "save_owed"

    reason: str
    worker: str
