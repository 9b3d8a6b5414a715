"""Which steps are saved, and what follows from how a save went?

Rule: a save is agreed before anybody may run beyond its step, there is one at a time, and one that
comes due meanwhile is skipped or waited for. A failed save never stops training; too many in a row
do. What isn't finite, or differs between ranks, isn't committed; what jumped against the last
checkpoint is, unless the policy says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from orchestrator.decide import save_parts


@dataclass(frozen=True)
class SavePolicy:
    """``save_steps`` and ``save_every_s`` as in the configuration (None: doesn't count).

    Attributes:
        in_parts: tables are divided among the workers, so that a save takes all ranks' rows.
        alike: sizes in bytes of the variables that all ranks hold alike and any of them could write.
        most_links: how many saves one that holds changed rows only may stand on; 0 where each is
            full.
    """

    save_steps: int | None
    save_every_s: float | None
    when_busy: Literal["skip", "wait"]
    max_failed: int
    on_nonfinite: Literal["stop", "rollback", "ignore"]
    on_outlier: Literal["warn", "stop", "rollback"] = "warn"
    outlier_factor: float = 1000.0
    in_parts: bool = False
    alike: tuple[int, ...] = ()
    most_links: int = 0


def parts(policy: SavePolicy, ranks: int) -> int:
    """How many ranks write a part each of a save in which so many take part; 0 where one writes
    all.
    """
    if policy.in_parts:
        return ranks
    several = save_parts.writers(policy.alike, ranks)
    return several if several > 1 else 0


@dataclass(frozen=True)
class InFlight:
    """A save that was agreed and isn't committed yet.

    Attributes:
        since_s: when it was last seen not to have begun.
        step: the first at which it's made; the one that it was made at, once it's written.
        position: where it's made at the latest, since a graph's own counter may stand still; None
            where only the step counts. Where it was made, once it's written.
        committing: its files are whole and checked, the commit is under way.
        writers: of a save in parts who writes one each, by rank; the others only check.
        over: number of the save whose changed rows it holds; 0 for a full one.
        refused: why one of the ranks couldn't write its part, once it has said so; ``busy`` is that
            worker where it isn't through with an earlier save.
    """

    generation: int
    step: int
    writer: str
    since_s: float
    committing: bool = False
    position: int | None = None
    writers: tuple[str, ...] = ()
    over: int = 0
    refused: str = ""
    busy: str = ""

    @property
    def parts(self) -> int:
        """How many ranks write one each; 0 where the writer writes all."""
        return len(self.writers)

    def is_reached(self, step: int, position: int) -> bool:
        """Whether a member that is so far has copied its state for it."""
        return step >= self.step or (self.position is not None and position >= self.position)


@dataclass(frozen=True)
class SaveLog:
    """What is known about this run's saves.

    Attributes:
        last_step: step of the newest checkpoint or skipped save.
        agreed: how many saves this driver has agreed on.
        last_s: when the last save was agreed.
        failed: saves that failed in a row.
        owed: save at the next boundary whatever the policy says (a save was lost, or a node is
            about to go).
        again_s: an owed or a last save isn't tried before this moment, since the writer was busy or
            the store failed.
        committed: step of the newest committed checkpoint of this run's lineage, None before the
            first; ``committed_position`` is its position, None where that isn't known.
        changes: it holds changed rows only; ``before`` is the step of the newest full one of this
            driver's generation before it, None where there's none.
        ground: number of the save that the next one may stand on, since every rank knows what has
            changed since then; 0 where there is none. ``links``: how many saves it's made of.
    """

    last_step: int
    last_s: float
    failed: int = 0
    owed: bool = False
    again_s: float = 0.0
    in_flight: InFlight | None = None
    agreed: int = 0
    committed: int | None = None
    committed_position: int | None = None
    changes: bool = False
    before: int | None = None
    ground: int = 0
    links: int = 0

    def holds(self, step: int, position: int) -> bool:
        """Whether a state that is so far has been committed."""
        known = self.committed_position
        return self.committed == step and (known is None or position <= known)

    @property
    def full(self) -> int | None:
        """Step of the newest committed checkpoint that plain TensorFlow reads."""
        return self.before if self.changes else self.committed

    def ends_with(self, step: int, position: int) -> bool:
        """Whether it was committed as a checkpoint that plain TensorFlow reads."""
        return self.holds(step, position) and not self.changes

    def on_new_ground(self) -> SaveLog:
        """The next save is a full one: nobody knows, or needs to know, what has changed."""
        return replace(self, ground=0, links=0)


FAILED_OVER = 1
"""Saves of changed rows that may fail over one ground: it may be the ground that is bad, and the
next one is full.
"""


def ground_of(policy: SavePolicy, log: SaveLog, *, last: bool) -> int:
    """Number of the save that the next one holds the changed rows over; 0 where it's to be full.

    What has changed since the last save that was committed is known however many were lost since:
    so one that failed loses no rows.

    Args:
        last: no other may come after it: it's to be one that plain TensorFlow reads.
    """
    short = 0 < log.links <= policy.most_links
    return 0 if last or not short or log.failed > FAILED_OVER else log.ground


def due_step(policy: SavePolicy, log: SaveLog, after: int, upto: int) -> int | None:
    """The first step in ``(after, upto]`` at which a save by steps is due, None where there is none.

    They fall on multiples of ``save_steps``, so that a run that was interrupted saves at the same
    steps as one that wasn't.
    """
    if policy.save_steps is None:
        return None
    multiple = (max(after, log.last_step) // policy.save_steps + 1) * policy.save_steps
    return multiple if multiple <= upto else None


def is_due(policy: SavePolicy, log: SaveLog, step: int, now_s: float) -> bool:
    """Whether a save is due wherever the group is next: by time, because one is owed, or because
    the last one was made before the multiple that the counter has passed since.
    """
    timed = policy.save_every_s is not None and now_s - log.last_s >= policy.save_every_s
    passed = policy.save_steps is not None and (
        step // policy.save_steps > log.last_step // policy.save_steps
    )
    return timed or passed or (log.owed and now_s >= log.again_s)


class Verdict(Enum):
    """What to do with a save whose files are written."""

    COMMIT = "commit"
    STOP = "stop"
    ROLL_BACK = "roll back"
    REPAIR = "repair"
    """Ranks differ: don't commit, send rank 0's state to all."""


def judge(
    policy: SavePolicy,
    nonfinite: tuple[str, ...],
    digests: Mapping[str, Mapping[str, int]],
    jumped: bool = False,
) -> Verdict:
    """What to do with written files.

    Args:
        digests: worker to checksum per variable.
        jumped: a variable did, against the last checkpoint.
    """
    if nonfinite and policy.on_nonfinite != "ignore":
        return Verdict.STOP if policy.on_nonfinite == "stop" else Verdict.ROLL_BACK
    if differing(digests):
        return Verdict.REPAIR
    if jumped and policy.on_outlier != "warn":
        return Verdict.STOP if policy.on_outlier == "stop" else Verdict.ROLL_BACK
    return Verdict.COMMIT


def differing(digests: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """Names of variables whose checksum isn't the same in all workers, sorted."""
    seen: dict[str, set[int]] = {}
    for per_variable in digests.values():
        for name, checksum in per_variable.items():
            seen.setdefault(name, set()).add(checksum)
    return tuple(sorted(name for name, values in seen.items() if len(values) > 1))


def too_many_failed(policy: SavePolicy, log: SaveLog) -> bool:
    """Whether going on would mean training on unsaved."""
    return log.failed >= policy.max_failed
