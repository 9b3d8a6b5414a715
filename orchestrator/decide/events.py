"""What can the driver learn that changes what it does?

Rule: an event is plain data about something that *happened*; nothing in it is a wish. Times aren't
in events: the loop passes its own monotonic clock beside each one. Workers are named by identities
(``w0003``) that are never used twice within a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# "as" exports them: whoever makes an event writes ``events.Gone(worker, events.Cause.DIED)``
from orchestrator.decide.causes import Cause as Cause
from orchestrator.decide.causes import Obstacle as Obstacle
from orchestrator.decide.causes import StopCause as StopCause
from orchestrator.decide.doing import Doing as Doing
from orchestrator.decide.outliers import Size
from orchestrator.decide.save_parts import SavedPart


@dataclass(frozen=True)
class Warm:
    """A worker has TensorFlow and the graph loaded. ``address``: the ``host:port`` that it reserved
    for its next group; ``devices``: the GPUs that Ray gave it, a standby has none; ``group``: the
    placement group that it lies in.
    """

    worker: str
    node: str
    pid: int
    address: str
    devices: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Gone:
    """A worker's process is gone for good. ``error``: ``as_dict()`` of one that no other worker
    could avoid either. ``exit_code``: negative for a signal; None where nobody knows it.
    """

    worker: str
    cause: Cause
    detail: str = ""
    error: Mapping[str, Any] | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class Progress:
    """A sign of life: the last step that the worker finished, and what it does now.

    Attributes:
        batch_rows: rows of its batch, 0 if unknown.
        moved_bytes: a number that changes while the worker's process copies, fetches, reads,
            checks, writes or sends state.
        position: batches that the whole group had consumed at that step.
        processor_s: processor time that the worker's process has used, in seconds.
        steps_taken: by its process so far; ``spent``: what they spent their time on, in seconds by
            part: input, compute, exchange, apply, save.
    """

    worker: str
    generation: int
    step: int
    doing: Doing
    steps_per_s: float = 0.0
    batch_rows: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    summaries: Mapping[str, float] = field(default_factory=dict)
    moved_bytes: int = 0
    position: int = 0
    processor_s: float = 0.0
    steps_taken: int = 0
    spent: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """A member has stopped between two steps; its state, if any, is in its host memory.

    Attributes:
        runs: runs of the next step's cycle that are done already.
        gives: it can give the result of its last run to a member that lacks it.
        takes: it has computed a run whose result it could take from a member.
        dead: ranks of its group whose processes it has seen end.
        share: rank and world size of which its rows of divided tables are, if it has a state.
    """

    worker: str
    generation: int
    step: int | None
    position: int
    address: str
    why: str = ""
    size_bytes: int = 0
    runs: int = 0
    gives: bool = False
    takes: bool = False
    dead: tuple[int, ...] = ()
    share: tuple[int, int] | None = None


@dataclass(frozen=True)
class Joined:
    """A member has formed its part of the generation and its variables are set. ``rows``,
    ``size_bytes``: of divided tables, which it has taken from others' memory.
    """

    worker: str
    generation: int
    step: int
    rows: int = 0
    size_bytes: int = 0


@dataclass(frozen=True)
class JoinFailed:
    """A member is alive and could not join. ``error``: ``OrchestratorError.as_dict()`` where there
    is one.
    """

    worker: str
    generation: int
    detail: str
    obstacle: Obstacle = Obstacle.PASSING
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class UserFailed:
    """The user's code or graph raised in a member; ``error`` is ``OrchestratorError.as_dict()``."""

    worker: str
    generation: int
    step: int
    error: Mapping[str, Any]


@dataclass(frozen=True)
class DataEnded:
    """A member's input has no batch for the step after ``step``."""

    worker: str
    generation: int
    step: int


@dataclass(frozen=True)
class SaveWritten:
    """The writer's files are in the store; not committed yet.

    Attributes:
        files: what the manifest will list.
        sizes: of every float variable; ``measured``: what it measured last before, if anything.
        part: the writer's own, of a save in parts: files and sizes stand there.
        reports: what all ranks' data files hold, once those are known; the index isn't made yet.
    """

    worker: str
    generation: int
    step: int
    position: int
    directory: str
    prefix: str
    files: tuple[Any, ...]
    digests: Mapping[str, int]
    nonfinite: tuple[str, ...] = ()
    stall_s: float = 0.0
    sizes: Mapping[str, Size] = field(default_factory=dict)
    measured: Mapping[str, Size] = field(default_factory=dict)
    part: SavedPart | None = None
    reports: tuple[Any, ...] = ()


@dataclass(frozen=True)
class SaveChecked:
    """Another rank's checksums, its ``part`` where it wrote one, and of which ``Grant.save``."""

    worker: str
    generation: int
    step: int
    digests: Mapping[str, int]
    position: int = 0
    part: SavedPart | None = None
    save: int = 0


@dataclass(frozen=True)
class SaveFailed:
    """A save came to nothing, in the worker or at the commit. ``busy``: the writer hasn't begun,
    since an earlier one isn't through. ``worker``, ``save`` (``Grant.save``): whose part of which.
    """

    generation: int
    step: int
    detail: str
    busy: bool = False
    position: int = 0
    worker: str = ""
    save: int = 0


@dataclass(frozen=True)
class Committed:
    """Manifest and pointer are written: the checkpoint exists. It may be one of a save that had
    failed since the store gave no answer. ``changes``: it holds changed rows only.
    """

    generation: int
    step: int
    position: int = 0
    changes: bool = False


@dataclass(frozen=True)
class Notice:
    """A worker was told that it will be ended (SIGTERM, drain)."""

    worker: str
    detail: str


@dataclass(frozen=True)
class Draining:
    """These nodes (as ``Warm.node`` names them) are about to be taken away."""

    nodes: tuple[str, ...]
    detail: str = "its node is draining"


@dataclass(frozen=True)
class Found:
    """The newest good checkpoint.

    Attributes:
        step: None where none was found.
        label: how ``FindCheckpoint.exclude`` calls it.
        error: ``OrchestratorError.as_dict()`` of why none was found.
        passing: the store didn't answer, so that asking again may find one.
    """

    step: int | None
    position: int = 0
    detail: str = ""
    label: str = ""
    error: Mapping[str, Any] | None = None
    passing: bool = False


@dataclass(frozen=True)
class Room:
    """How many more workers the cluster could place now."""

    free: int


@dataclass(frozen=True)
class StopAsked:
    """Somebody wants the run to end; ``grace_s`` is what is left until we are killed."""

    cause: StopCause
    grace_s: float


@dataclass(frozen=True)
class Fenced:
    """Another driver holds the lease: this one may do nothing any more. ``error`` is ``as_dict()``."""

    error: Mapping[str, Any]


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = (
    Warm
    | Gone
    | Progress
    | Held
    | Joined
    | JoinFailed
    | UserFailed
    | DataEnded
    | SaveWritten
    | SaveChecked
    | SaveFailed
    | Committed
    | Notice
    | Draining
    | Found
    | Room
    | StopAsked
    | Fenced
    | Tick
)
