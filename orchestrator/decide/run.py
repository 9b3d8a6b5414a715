"""What does the driver know about its run?

Rule: this is the whole of it, as one frozen value. ``machine.advance`` folds events into it;
nothing else changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import immutables

from orchestrator.decide.actions import Outcome
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.events import Found, SaveWritten
from orchestrator.decide.incident import Incident
from orchestrator.decide.outliers import Size
from orchestrator.decide.phases import Phase
from orchestrator.decide.policy import Policy
from orchestrator.decide.recovery import Streak
from orchestrator.decide.roster import Roster
from orchestrator.decide.save_parts import SavedPart
from orchestrator.decide.save_policy import SaveLog
from orchestrator.decide.scaling import group_size


@dataclass(frozen=True)
class Ending:
    """The run is to end, after a last save if there is time for one.

    Attributes:
        hard: at the deadline somebody kills us.
        at_once: nothing is to be saved any more.
        last_step: the step without which this end isn't reached; None where any will do.
        instead: the end that somebody asked for meanwhile, where it isn't.
    """

    outcome: Outcome
    reason: str
    deadline_s: float | None = None
    stop_cause: str | None = None
    error: Mapping[str, Any] | None = None
    hard: bool = False
    at_once: bool = False
    last_step: int | None = None
    instead: Ending | None = None


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
        catches_up: the generation that is being formed takes no step; rows are moved after it.
        givers: who gives rows to others as it's being formed.
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
        digests: checksums of the save under way by worker; ``expected`` the workers whose are still
            lacking, as keys, of which one is taken out at the same cost among thousands.
        parts: by rank, what has been told of the save in parts that is under way.
        sizes: of the float variables at the newest save that was worth committing; nothing before
            this driver's first.
    """

    policy: Policy
    budgets: Budgets
    saves: SaveLog
    phase: Phase = Phase.WAITING
    since_s: float = 0.0
    workers: Roster = field(default_factory=Roster)
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
    catches_up: bool = False
    givers: tuple[str, ...] = ()
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
    digests: immutables.Map[str, Mapping[str, int]] = field(default_factory=immutables.Map)
    expected: immutables.Map[str, None] = field(default_factory=immutables.Map)
    parts: immutables.Map[int, SavedPart] = field(default_factory=immutables.Map)
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
        """The rank that a living worker has in the present generation."""
        known = self.workers.get(worker)
        return None if known is None else known.rank

    @property
    def reform(self) -> str:
        """Why the group is to be formed anew at the next boundary; empty where it isn't.

        It follows from who is there, so that no plan outlives its reason.
        """
        size = self._size_after_reform
        if size is None:
            return ""
        if self.workers.tally.going:
            going = (ident for ident in self.members if self.workers[ident].leaving)
            return f"{', '.join(going)} is about to go"
        return f"grow from {self.world_size} to {size} workers"

    @property
    def reforms(self) -> bool:
        """Whether there is a ``reform``."""
        return self._size_after_reform is not None

    @property
    def _size_after_reform(self) -> int | None:
        if self.phase is not Phase.TRAINING or self.ending is not None:
            return None
        tally = self.workers.tally
        staying = len(self.members) - tally.going
        size = group_size(self.policy.sizes, self.target, True, staying, tally.standbys)
        return size if size is not None and (tally.going or size > self.world_size) else None
