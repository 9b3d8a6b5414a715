"""What does a worker's loop need from the outside?

Rule: the loop in ``worker_loop`` knows these protocols only. ``runtime`` fills them with TensorFlow
and storage inside the actor's process; the tests fill them with arrays in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.decide.outliers import Size
from orchestrator.decide.spans import RowSpan
from orchestrator.workers.orders import CheckpointFiles, JoinOrder


class StepOutputLike(Protocol):
    """``training.state.state.StepOutput``."""

    @property
    def step(self) -> int: ...
    @property
    def watched(self) -> Mapping[str, float]: ...
    @property
    def summaries(self) -> Mapping[str, float]: ...


class RowsLike(Protocol):
    """``training.step.held_rows.HeldRows``."""

    def rest(self) -> Any: ...
    def give(self, wanted: Sequence[RowSpan]) -> tuple[Any, ...]: ...
    def compare(self, given: Sequence[Any]) -> None: ...
    def take(self, share: tuple[int, int], given: Sequence[Any]) -> tuple[int, int]: ...


class TrainerLike(Protocol):
    """``training.trainer.Trainer``, as far as the loop uses it."""

    @property
    def address(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def share(self) -> tuple[int, int] | None: ...
    @property
    def rows(self) -> RowsLike: ...
    @property
    def agrees(self) -> bool: ...
    @property
    def turns(self) -> Sequence[int]: ...
    @property
    def position(self) -> int: ...
    @property
    def runs(self) -> int: ...
    @property
    def can_give(self) -> bool: ...
    @property
    def can_take(self) -> bool: ...
    @property
    def dead_peers(self) -> tuple[int, ...]: ...
    @property
    def computing(self) -> bool: ...
    @property
    def spent(self) -> Mapping[str, float]: ...
    def get_ready(self) -> bool: ...
    def join(self, group: Any) -> None: ...
    def assign(self, state: Any) -> None: ...
    def state_for_save(
        self, save: tuple[int, int] = (0, 0), over: tuple[int, int] | None = None
    ) -> Any: ...
    def meet(self) -> bool: ...
    def step(self, batches: Sequence[Mapping[str, Any]]) -> StepOutputLike: ...
    def abandon(self) -> None: ...
    def close(self) -> None: ...


class Batches(Protocol):
    """This rank's batches of one generation. They are held until they were applied. ``take`` raises
    EndOfData, UserCodeError.
    """

    def take(self, count: int) -> Sequence[Mapping[str, Any]]: ...
    def applied(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class WrittenFiles:
    """A bundle that is in the store: its directory and prefix there, and
    ``store.objects.manifest.FileRecord`` of each file.
    """

    directory: str
    prefix: str
    files: tuple[Any, ...]


@dataclass(frozen=True)
class WrittenPart:
    """One rank's part of a checkpoint that is in the store: as ``WrittenFiles``, whose rows it
    holds, and ``store.bundle.data_writer.DataReport`` of its data file.
    """

    directory: str
    prefix: str
    files: tuple[Any, ...]
    rank: int
    report: Any


class Tools(Protocol):
    """Everything that isn't the loop's own."""

    def load(self) -> TrainerLike:
        """Import TensorFlow and the graph. Takes seconds; the checkpoint that the run starts from
        is staged meanwhile.
        """

    def group(self, order: JoinOrder) -> Any:
        """The ``GroupSpec`` of this order."""

    def checkpoint_state(self, checkpoint: CheckpointFiles, share: tuple[int, int]) -> Any:
        """The state in a checkpoint: of divided tables the rows of that rank of so many. Raises
        CorruptCheckpoint, GraphMismatch, StorageUnavailable.
        """

    def import_input(self) -> None:
        """Import the module of the user's input function ahead of ``batches``, which then finds in
        this process what that module imports. Raises UserCodeError.
        """

    def batches(self, order: JoinOrder) -> Batches:
        """This rank's batches from the order's step and position on. Raises UserCodeError."""

    def moved_bytes(self) -> int:
        """A number that changes while this process copies, fetches, reads, checks, writes or sends
        state.
        """

    def processor_s(self) -> float:
        """Processor time that this process has used, in seconds."""

    def digests(self, state: Any) -> Mapping[str, int]:
        """A checksum of every variable that has to be equal on all ranks, and of each block of rows
        that others hold too.
        """

    def nonfinite(self, state: Any) -> tuple[str, ...]:
        """Names of float variables that hold NaN or infinity."""

    def sizes(self, state: Any) -> Mapping[str, Size]:
        """How large every float variable is."""

    def write(self, state: Any, directory: str, again: int | None) -> WrittenFiles:
        """Write the bundle and upload it. ``again``: its position, where an earlier checkpoint has
        the same step. Raises StorageUnavailable, OutputError.
        """

    def own_part(self, state: Any, rank: int, ranks: int) -> Any:
        """What a rank of so many writes of a save in parts: the rows that it owns, and its part of
        what all hold alike.
        """

    def write_part(
        self, own: Any, directory: str, again: int | None, part: tuple[int, int]
    ) -> WrittenPart:
        """Write the data file of ``own_part`` and upload it; the first with the graph. ``part``:
        which of how many files. Raises as ``write``.
        """
