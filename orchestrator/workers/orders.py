"""What does the driver send to a worker?

Rule: plain data that pickles, without TensorFlow. Whatever outlives one generation goes into
``Setup``; the rest is said anew each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.config import RunConfig
from orchestrator.decide.actions import Grant, StateFrom
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.objects.location import Location

if TYPE_CHECKING:
    from orchestrator.training.engine.options import TrainingOptions


@dataclass(frozen=True)
class CheckpointFiles:
    """A good checkpoint in a store.

    Attributes:
        files: ``store.objects.location.FileInfo`` of each of its files.
        position: batches that the whole group had consumed before it.
        of_source: it's the source's, which the flags may say to read otherwise than as it is.
        links: where it holds changed rows only, the files of each save that it's made of, the full
            one first, as ``Source.links`` has them; ``files`` are all of those.
    """

    step: int
    position: int
    prefix: str
    files: tuple[Any, ...]
    of_source: bool = False
    links: tuple[tuple[Any, ...], ...] = ()


@dataclass(frozen=True)
class Setup:
    """What a worker is made with.

    Attributes:
        secret: what the run's workers prove to each other; in no log and no record.
        first_batches_per_step: slots of a step at the run's first start, for a learning rate that
            follows them.
        name: the source's own name for its checkpoints, ``model.ckpt`` as a rule.
        start: the checkpoint that the run starts from, staged while TensorFlow is being imported;
            None in a worker that comes later.
    """

    graph: WorkerGraph
    options: TrainingOptions
    config: RunConfig
    output: Location
    name: str
    start: CheckpointFiles | None
    orphan_timeout_s: float
    first_batches_per_step: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Donation:
    """A member's state on its way to a worker that has none.

    Attributes:
        state: ``training.state.state.State``.
        position: batches that the whole group consumed before it.
        digests: checksum of each variable, taken by the giver and compared by the taker.
    """

    state: Any
    position: int
    digests: Mapping[str, int]


@dataclass(frozen=True)
class GivenRows:
    """Rows of divided tables on their way from a member to one that lacks them.

    Attributes:
        step, position: of the state that they're of.
        pieces: ``training.state.moved_rows.RowPiece`` of each.
    """

    step: int
    position: int
    pieces: tuple[Any, ...]


@dataclass(frozen=True)
class Given:
    """What comes with an order to join from other members' memory.

    Attributes:
        state: where ``state_from`` is a donor.
        rows: where it ``moves``, from each who gives some.
    """

    state: Donation | None = None
    rows: tuple[GivenRows, ...] = ()


@dataclass(frozen=True)
class JoinOrder:
    """Join a generation.

    Attributes:
        addresses: ``TrainerLike.address`` by rank.
        position: batches that the whole group consumed before the generation.
        checkpoint: set where ``state_from`` is the checkpoint.
        devices: the GPUs to train on; a standby takes those of the rank that was lost.
        place: the placement group whose GPUs these are, where they are another's.
        moves: the rows of divided tables are to be those of this rank: what it lacks of them comes
            with the order.
    """

    generation: int
    rank: int
    addresses: tuple[str, ...]
    step: int
    position: int
    state_from: StateFrom
    checkpoint: CheckpointFiles | None = None
    devices: tuple[str, ...] = ()
    place: str = ""
    moves: bool = False

    @property
    def world_size(self) -> int:
        """Members of the generation."""
        return len(self.addresses)


@dataclass(frozen=True)
class GrantOrder:
    """Run up to ``end``; copy the state for a save at each step of ``saves``.

    Attributes:
        directory: where the writer's files go: ``a0001-g0001`` below the output.
        position, save_position, saved: as in ``decide.actions.Grant``.
        save: which save that is: the driver's attempt, and its number among those of that driver.
        parts: how many ranks write one each; 0 where the writer writes all.
        over: the save since which the rows have changed that are to be saved; None for all rows.
    """

    generation: int
    end: int
    saves: tuple[int, ...]
    writer: str
    directory: str
    position: int
    save_position: int | None = None
    saved: int | None = None
    save: tuple[int, int] = (0, 0)
    parts: int = 0
    over: tuple[int, int] | None = None

    @classmethod
    def of(cls, action: Grant, directory: str, attempt: int) -> GrantOrder:
        """What the driver of ``attempt`` tells the workers of this grant."""
        return cls(
            action.generation,
            action.end,
            action.saves,
            action.writer,
            directory,
            action.position,
            action.save_position,
            action.saved,
            (attempt, action.save),
            action.parts,
            (attempt, action.over) if action.over else None,
        )
