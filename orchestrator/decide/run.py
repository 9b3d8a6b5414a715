"""What does the driver know about its run?

Rule: this is the whole of it, as one frozen value. ``machine.advance`` folds events into it;
nothing else changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from orchestrator.decide.actions import Outcome
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.doing import Doing
from orchestrator.decide.events import Found, SaveWritten
from orchestrator.decide.incident import Incident
from orchestrator.decide.outliers import Size
from orchestrator.decide.phases import Phase
from orchestrator.decide.policy import Policy
from orchestrator.decide.recovery import Streak
from orchestrator.decide.save_parts import SavedPart
from orchestrator.decide.save_policy import SaveLog
from orchestrator.decide.scaling import group_size


class Stage(Enum):
    """How far a worker is."""

    STARTING = "starting"
    WARM = "standby"
    MEMBER = "member"


@dataclass(frozen=True)
class Worker:
    """One worker process.

    Attributes:
        step: the last step that it said to have finished; None before it had any state.
        held: it has stopped, and its state (if any) is in its host memory.
        position: batches that the whole group had consumed at ``step``.
        runs, gives, takes: what it last said of them in ``Held``.
        generation: the last one that it was told to join.
        leaving: it will be gone soon (notice), or is to be let go.
        moved_bytes, moved_s: its last ``Progress.moved_bytes``, and when that or what it does last
            changed.
        turned_s: when its step or what it does last changed.
        worked_s: when it was last seen to use a processor; looked_s, processor_s: when that was
            last looked at, and its ``Progress.processor_s`` then.
        size_bytes: of its state, as it last said.
        tainted: its state isn't to be used: the run has rolled back from it.
        spent: its group broke and the policy doesn't form such a process again; it lives until its
            state has passed.
        ended_s: when its end was last asked for; None where it wasn't.
        share: rank and world size of which its rows of divided tables are, as it last said.
    """

    ident: str
    stage: Stage
    since_s: float
    heard_s: float
    node: str = ""
    pid: int = 0
    address: str = ""
    step: int | None = None
    position: int = 0
    held: bool = False
    joined: bool = False
    doing: Doing = Doing.IDLE
    generation: int = 0
    leaving: bool = False
    spent: bool = False
    moved_bytes: int = 0
    moved_s: float = 0.0
    turned_s: float = 0.0
    worked_s: float = 0.0
    looked_s: float = 0.0
    processor_s: float = 0.0
    size_bytes: int = 0
    tainted: bool = False
    runs: int = 0
    gives: bool = False
    takes: bool = False
    ended_s: float | None = None
    share: tuple[int, int] | None = None

    @property
    def place(self) -> tuple[int, int, int] | None:
        """How far its state is: step, batches that were consumed before, since a graph's own counter
        may stand still for a while (loss scaling that skips, gradients that are gathered first), and
        runs of the next step's cycle; None where it has no state.
        """
        return None if self.step is None else (self.step, self.position, self.runs)


@dataclass(frozen=True)
class Ending:
    """The run is to end, after a last save if there is time for one.

    Attributes:
        hard: at the deadline somebody kills us.
        at_once: nothing is to be saved any more.
    """

    outcome: Outcome
    reason: str
    deadline_s: float | None = None
    stop_cause: str | None = None
    error: Mapping[str, Any] | None = None
    hard: bool = False
    at_once: bool = False


@dataclass(frozen=True)
class Run:
    """Everything that the driver knows.

    Attributes:
        members: identities by rank of the present generation, the dead ones being taken out
            (``vacant`` keeps the ranks).
        seats: identities by rank as the generation was formed.
        step: the step that all members have finished; ``highest`` the step that any has finished
            since the group was formed last.
        used_generation: the highest number that the journal knows of, which an earlier driver may
            have spent in vain.
        position: batches that the whole group had consumed at ``step``.
        fastest: the highest step that any member of the present generation has finished;
            ``fastest_position`` where it was then.
        leap: by how much the graph's own counter grew with the last step; 1 where it stood still.
        counted_s: when ``step`` last grew; ``standing`` says that the journal was told that it
            hasn't for long.
        laggards: members that have finished ``step`` and no more, so that a thousand workers
            needn't be looked through each time.
        granted_end: the last step that was ever granted in this generation; ``granted_position``
            the last position: whichever comes first.
        batch_rows: rows that one worker gets in one step, as a member told; 0 while nobody has.
        origin: a checkpoint that is known to be good, to start from when nobody has the state.
        target: the world size that the run wants.
        planned: the ``reform`` that the journal was last told of, in this generation.
        seen_dead: workers that are gone since their peers saw them die, until Ray has said what of;
            with their ranks, and whether they were about to go.
        pieced: ``seats`` are those who were left of a group that an earlier driver had formed: their
            order isn't that of its ranks.
        gather_for: why the members are to stop; empty where they aren't.
        suspicions: how often the step after ``suspected`` was taken for hung, until it ended.
        longest_s: how long the longest step took that wasn't a generation's first, or that had been
            taken for hung.
        room: how many more workers the cluster could place, until that was answered.
        fruitless: formations since the last finished step.
        failures: disturbances since the last finished step; ``start_failures``: workers in a row
            that ended before they were warm.
        join_failures: formations in a row that failed though a member could say why.
        retry_s: the next try isn't before this moment; None where nothing has to wait.
        store_down_s: since when the store hasn't answered; None while it does.
        last_cause: what went wrong last, for the reason of an end.
        accused, bad: a checkpoint that a member found damaged, and those that were found so twice,
            with the reason.
        rolled_back_from: the step at which the state wasn't finite, until a later one is committed.
        divergences: saves in a row at which the ranks differed.
        parts: by rank, what has been told of the save in parts that is under way.
        sizes: of the float variables at the newest save that was worth committing; nothing before
            this driver's first.
    """

    policy: Policy
    budgets: Budgets
    saves: SaveLog
    phase: Phase = Phase.WAITING
    since_s: float = 0.0
    workers: Mapping[str, Worker] = field(default_factory=dict)
    next_worker: int = 1
    generation: int = 0
    used_generation: int = 0
    seats: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    step: int = 0
    highest: int = 0
    position: int = 0
    fastest: int = 0
    fastest_position: int = 0
    leap: int = 1
    counted_s: float = 0.0
    standing: bool = False
    laggards: int = 0
    granted_end: int = 0
    granted_position: int = 0
    batch_rows: int = 0
    stepped: bool = False
    step_time_s: float | None = None
    longest_s: float = 0.0
    suspicions: int = 0
    suspected: tuple[int, int] = (0, 0)
    moved_s: float = 0.0
    ticked_s: float | None = None
    origin: Found | None = None
    target: int = 1
    planned: str = ""
    seen_dead: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    pieced: bool = False
    gather_for: str = ""
    room: int = 0
    broke_step: bool = False
    fruitless: int = 0
    streak: Streak = field(default_factory=Streak)
    failures: int = 0
    start_failures: int = 0
    join_failures: int = 0
    retry_s: float | None = None
    store_down_s: float | None = None
    last_cause: str = ""
    accused: str = ""
    bad: Mapping[str, str] = field(default_factory=dict)
    rolled_back_from: int | None = None
    divergences: int = 0
    incident: Incident | None = None
    ending: Ending | None = None
    written: SaveWritten | None = None
    sizes: Mapping[str, Size] = field(default_factory=dict)
    digests: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    expected: frozenset[str] = frozenset()
    parts: Mapping[int, SavedPart] = field(default_factory=dict)
    divergence: bool = False
    rolling_back: bool = False
    started: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """How far all members are: step and position."""
        return self.step, self.position

    def may_step(self, step: int, position: int) -> bool:
        """Whether a member that is so far may take another step."""
        return step < self.granted_end and position < self.granted_position

    @property
    def is_at_boundary(self) -> bool:
        """Whether all members stand at the end of what is granted."""
        return not self.may_step(*self.place)

    @property
    def batches_taken(self) -> int:
        """Batches that the whole group consumes in one step."""
        return (self.policy.batches_per_step or self.world_size) * self.policy.batches_per_slot

    @property
    def effective_batch(self) -> int | None:
        """Rows that the whole group gets in one step, None where it isn't known."""
        rows = self.policy.batch_size or self.batch_rows
        return rows * (self.policy.batches_per_step or self.world_size) if rows else None

    @property
    def world_size(self) -> int:
        """Members of the present generation, dead or alive."""
        return len(self.seats)

    def rank_of(self, worker: str) -> int | None:
        """The worker's rank in the present generation."""
        return self.seats.index(worker) if worker in self.seats else None

    @property
    def reform(self) -> str:
        """Why the group is to be formed anew at the next boundary; empty where it isn't.

        It follows from who is there, so that no plan outlives its reason.
        """
        if self.phase is not Phase.TRAINING or self.ending is not None:
            return ""
        warm = sum(
            1
            for worker in self.workers.values()
            if worker.stage is Stage.WARM and not worker.leaving
        )
        going = [ident for ident in self.members if self.workers[ident].leaving]
        staying = len(self.members) - len(going)
        size = group_size(self.policy.sizes, self.target, True, staying, warm)
        if size is None:
            return ""
        if going:
            return f"{', '.join(going)} is about to go"
        return f"grow from {self.world_size} to {size} workers" if size > self.world_size else ""
