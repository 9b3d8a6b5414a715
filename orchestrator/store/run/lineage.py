"""Which checkpoints belong to the run as it went on, and which to a branch that was abandoned?

Rule: each attempt and generation, before its first save, records "(attempt, generation) took over
at step s from parent p". Going back from the newest record along the parents gives one chain, and
each link bounds the one before it: what a generation saved beyond the step at which its successor
took over isn't part of the run, whoever wrote it and whenever. That is the fence against a paused
driver that wakes up; it needs exclusive creates only, no clock and no compare-and-swap.

::

    a1-g1 ──0────────1000──1500 (saved by a driver that woke up late: fenced)
                      └ a2-g1 took over at 1000 ──1200
                                                  └ a2-g2 took over at 1200 …

A run that is interrupted for months has tens of thousands of take-overs. Those that bound nothing
any more are forgotten: of the older ones remain the generations that have files, each with its last
step. A generation that was forgotten isn't in the lineage, so that a driver of it that wakes up
stays fenced.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Container, Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.errors import LeaseLost, OrchestratorError, OutputError
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import (
    CONTROL,
    GenerationId,
    checkpoint_dir,
    read_generation_id,
)
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.records import decode, encode
from orchestrator.vocabulary import Attempt, Generation

CHAIN = 512
"""Take-overs from which on a record is made shorter. One has some 60 bytes, so a record stays within
what one small request brings; the half of them that is never forgotten is what happens in days of
interruptions every few minutes.
"""
RECORDS = 64
"""Records that stay besides the newest, which says all that they say: where a store lists late a
reader finds one of those that it still knows, not none. They're deleted so many at a time.
"""


class TakeOver(BaseModel):
    """One generation's beginning."""

    model_config = ConfigDict(frozen=True)

    attempt: int = Field(ge=1)
    generation: int = Field(ge=1)
    step: int = Field(ge=0)
    last: int | None = Field(default=None, ge=0)
    """Its last step that belongs to the run, where the take-over that bounds it was forgotten."""

    @property
    def generation_id(self) -> GenerationId:
        """Attempt and generation, ordered."""
        return GenerationId(Attempt(self.attempt), Generation(self.generation))


class LineageRecord(BaseModel):
    """A take-over with all that came before it, so that one read tells the whole lineage."""

    model_config = ConfigDict(frozen=True)

    chain: tuple[TakeOver, ...] = Field(min_length=1)
    """The run's take-overs, oldest first; the last is this record's own."""
    writer: str = Field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class Lineage:
    """The run's take-overs, oldest first; empty before the first."""

    chain: tuple[TakeOver, ...] = ()

    @property
    def head(self) -> TakeOver | None:
        """The generation that is writing, or wrote last."""
        return self.chain[-1] if self.chain else None

    def holds(self, generation_id: GenerationId, step: int) -> bool:
        """Whether a checkpoint of ``generation_id`` at ``step`` belongs to the run."""
        return step <= self.bound(generation_id)

    def bound(self, generation_id: GenerationId) -> float:
        """The last step of a generation that belongs to the run: infinity for the head, -1 for one
        that isn't in the chain.
        """
        bound = float("inf")
        for link in reversed(self.chain):
            if link.generation_id == generation_id:
                return bound if link.last is None else min(bound, link.last)
            bound = min(bound, link.step)
        return -1.0

    def why_not(self, generation_id: GenerationId, step: int) -> str:
        """In words, why a checkpoint isn't in the lineage; empty where it is."""
        if self.holds(generation_id, step):
            return ""
        bound = self.bound(generation_id)
        if bound < 0:
            return f"{generation_id.directory} isn't part of this run's lineage"
        told = f"saved at step {step} by {generation_id.directory}"
        later = next(
            (
                link
                for link in reversed(self.chain)
                if link.generation_id > generation_id and link.step == bound
            ),
            None,
        )
        if later is None:
            return f"{told}, after another generation had taken over at step {bound:g}"
        successor = later.generation_id.directory
        return f"{told}, after {successor} had taken over at step {later.step}"


def extend(lineage: Lineage, record: TakeOver, parent: GenerationId | None) -> Lineage:
    """The lineage after a take-over.

    Args:
        parent: whose state it goes on from; None for the source's own.

    Raises:
        OutputError: the parent isn't part of the lineage, or the take-over isn't later than all of
            it.
    """
    kept: tuple[TakeOver, ...] = ()
    if parent is not None:
        if lineage.bound(parent) < 0:
            raise OutputError(
                f"{parent.directory} isn't part of this run's lineage",
                remedy="Resume from a checkpoint that is",
            )
        kept = tuple(link for link in lineage.chain if link.generation_id <= parent)
    head = lineage.head
    if head is not None and record.generation_id <= head.generation_id:
        raise LeaseLost(
            f"{record.generation_id.directory} comes too late: {head.generation_id.directory} has taken this run over",
            remedy="Nothing to do: the other driver goes on",
        )
    return Lineage((*kept, record))


def shortened(lineage: Lineage, alive: Container[GenerationId]) -> Lineage:
    """The lineage without the take-overs that bound nothing any more, if it's long.

    Args:
        alive: the generations that have files.

    Returns:
        One with the same bound for each of them and for the newest; all others are forgotten.
    """
    if len(lineage.chain) <= CHAIN:
        return lineage
    older, newest = lineage.chain[: -(CHAIN // 2)], lineage.chain[-(CHAIN // 2) :]
    kept = [
        link.model_copy(update={"last": int(lineage.bound(link.generation_id))})
        for link in older
        if link.generation_id in alive
    ]
    return Lineage((*kept, *newest))


def read_lineage(output: Location) -> Lineage:
    """The lineage as it stands: one listing and one read. Raises OutputError, StorageUnavailable."""
    return _read(output)[0]


def _read(output: Location) -> tuple[Lineage, list[GenerationId]]:
    """The lineage, and whose records are there, oldest first."""
    directory = output.child(CONTROL, "lineage")
    ids = sorted(_generation_ids(entry.name for entry in directory.list()))
    if not ids:
        return Lineage(), []
    newest = directory.child(f"{ids[-1].directory}.json")
    data = newest.read_bytes()
    return Lineage(decode(LineageRecord, data, newest).chain), ids


def record_takeover(
    output: Location,
    attempt: int,
    generation: int,
    step: int,
    parent: tuple[int, int] | None = None,
) -> Lineage:
    """Records that (attempt, generation) goes on from ``step``, before its first save.

    Args:
        parent: (attempt, generation) whose state it goes on from: that of the checkpoint restored,
            or of the workers adopted. ``(0, 0)`` is the run's source; None the newest one recorded,
            or the source where there is none.

    Returns:
        The lineage with the new take-over as its head.

    Raises:
        LeaseLost: a later one is recorded already.
        AlreadyExists: someone else recorded this same one.
        OutputError, StorageUnavailable: not written, or not known.
    """
    lineage, recorded = _read(output)
    record = TakeOver(attempt=attempt, generation=generation, step=step)
    source: GenerationId | None = lineage.head.generation_id if lineage.head else None
    if parent is not None:
        source = (
            GenerationId(Attempt(parent[0]), Generation(parent[1])) if parent != (0, 0) else None
        )
    if lineage.head == record:
        # ours already: attempts are unique, so the reply to an earlier call was lost
        return lineage
    extended = extend(lineage, record, source)
    if len(extended.chain) > CHAIN:
        extended = shortened(extended, _with_files(output))
    target = output.child(CONTROL, "lineage", f"{checkpoint_dir(attempt, generation)}.json")
    create_once(target, encode(LineageRecord(chain=extended.chain)))
    if len(recorded) >= 2 * RECORDS:
        _forget(output, recorded[:-RECORDS])
    return extended


def _with_files(output: Location) -> set[GenerationId]:
    found = (read_generation_id(entry.name) for entry in output.list())
    return {each for each in found if each is not None}


def _forget(output: Location, ids: Iterable[GenerationId]) -> None:
    for each in ids:
        # One that stays costs a little space; the next take-overs try again
        with contextlib.suppress(OrchestratorError):
            output.child(CONTROL, "lineage", f"{each.directory}.json").delete()


def _generation_ids(names: Iterable[str]) -> list[GenerationId]:
    found = (
        read_generation_id(name.removesuffix(".json")) for name in names if name.endswith(".json")
    )
    return [each for each in found if each is not None]
