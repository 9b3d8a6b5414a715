"""What can the rules tell the driver to do?

Rule: an action is a value; the loop carries it out and what comes of it returns as an event. None
of them blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from orchestrator.decide.events import SaveWritten
from orchestrator.decide.row_moves import RowsFrom
from orchestrator.journal.event import JournalEvent


class StateFrom(Enum):
    """Where a member gets the state from that its generation starts with."""

    OWN = "own"
    """It holds it already."""
    RESULT = "result"
    """It holds the one before, and takes the result of the run that it lacks from a member when the
    group meets.
    """
    DONOR = "donor"
    """From the donor's host memory, through the object store; of divided tables nothing."""
    CHECKPOINT = "checkpoint"
    """From the staged checkpoint."""


class Outcome(Enum):
    """How a run ends."""

    DONE = "done"
    END_OF_DATA = "end of data"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Seat:
    """One member's place in a new generation.

    Attributes:
        rows: of divided tables, which it takes from others' memory; of those of its rank it has the
            rest. None where it keeps what it has.
    """

    worker: str
    rank: int
    address: str
    state_from: StateFrom
    rows: tuple[RowsFrom, ...] | None = None


@dataclass(frozen=True)
class StartWorker:
    """Start a worker process after ``delay_s``, not on a node in ``avoid``. ``stage``: it may be
    asked to read the start checkpoint.
    """

    worker: str
    delay_s: float = 0.0
    avoid: tuple[str, ...] = ()
    standby: bool = False
    stage: bool = False


@dataclass(frozen=True)
class EndWorker:
    """Kill a worker's process. Its ``Gone`` comes back with ``cause``."""

    worker: str
    cause: str
    detail: str = ""


@dataclass(frozen=True)
class Quiesce:
    """Ask members to stop at the next step boundary and hold their state. ``urgent``: a peer is
    gone, abandon the step under way.
    """

    generation: int
    workers: tuple[str, ...]
    urgent: bool


@dataclass(frozen=True)
class AwaitEnd:
    """A worker was seen to die by its peers: its place is free, and Ray will say what it died of.
    Where it doesn't, for it lives after all, end it.
    """

    worker: str


@dataclass(frozen=True)
class BreakStep:
    """Make the group's hanging step fail by abandoning it from this member."""

    worker: str
    generation: int


@dataclass(frozen=True)
class Form:
    """Form a generation.

    Attributes:
        donor: None where everybody has the state or reads the checkpoint.
        release: processes that are used up: they are ended once the donor's state has passed, and
            before the seats join, so that their GPUs are free.
    """

    generation: int
    seats: tuple[Seat, ...]
    donor: str | None
    step: int
    position: int
    release: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grant:
    """Tell the members that they may run up to ``end``, and the steps at which to copy the state
    for a save. A graph's own counter may stand still, so both have a position as well: whichever
    comes first counts.

    Attributes:
        position: batches that the whole group may have consumed.
        save_position: save here at the latest; None where only the step counts.
        saved: step of the newest checkpoint; another one of the same step gets another name.
        save: number of the save among those of this driver. It's told with every grant until it's
            written, since a grant may be lost or overtaken; each save is made once all the same.
        parts: how many ranks write one each; 0 where the writer writes all.
        over: number of the save since which the rows have changed that are to be saved; 0 for all.
    """

    generation: int
    workers: tuple[str, ...]
    end: int
    saves: tuple[int, ...]
    writer: str
    position: int
    save_position: int | None
    saved: int | None
    save: int = 0
    parts: int = 0
    over: int = 0


@dataclass(frozen=True)
class Commit:
    """Write manifest and pointer for files that are in the store, and before that the index where
    the ranks wrote them in parts.
    """

    written: SaveWritten


@dataclass(frozen=True)
class FindCheckpoint:
    """Look for the newest good checkpoint; nobody has the state. ``exclude``: label to reason, for
    those that turned out bad.
    """

    reason: str
    exclude: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Note:
    """Write an event into the journal."""

    event: JournalEvent


@dataclass(frozen=True)
class Finish:
    """End the run. ``error`` is ``OrchestratorError.as_dict()`` where there is one."""

    outcome: Outcome
    reason: str
    step: int | None
    stop_cause: str | None = None
    error: Mapping[str, Any] | None = None


Action = (
    StartWorker
    | EndWorker
    | AwaitEnd
    | Quiesce
    | BreakStep
    | Form
    | Grant
    | Commit
    | FindCheckpoint
    | Note
    | Finish
)
