"""What has the driver asked of this worker, and how far is the worker with it?

Rule: the one value that the driver's calls and the working thread share. Whoever changes what the
other waits for holds ``condition``; numbers that are only shown (``doing``, ``watched``) are
replaced as they are.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from orchestrator.decide.doing import Doing
from orchestrator.workers.orders import Given, GrantOrder, JoinOrder
from orchestrator.workers.runtime_protocol import TrainerLike


@dataclass
class Mailbox:
    """Notes from the driver, and where the worker stands.

    Attributes:
        orders: generations to join, with what came with the order.
        hold_generation, held_for: stop at the next step boundary of this generation; the one for
            which that was done.
        broken_off: why the step under way was abandoned from here.
        grants: by step, the order that agreed on a save there. There is one save at a time.
        save: which one was told of last. It comes with many grants, and is made once.
        has_state: the session's variables are the run's, at ``step``.
        loaded: the last generation whose state is in the session.
        met: all ranks of the generation have come.
        meeting: it waits for them without being as far as the generation is.
        batch_rows: rows of the last batch, 0 where they can't be told.
    """

    condition: threading.Condition = field(default_factory=threading.Condition)
    trainer: TrainerLike | None = None
    orders: list[tuple[JoinOrder, Given]] = field(default_factory=list)
    order: JoinOrder | None = None
    hold_generation: int = 0
    held_for: int = 0
    closing: bool = False
    broken_off: str = ""
    granted: int = 0
    """The step up to which this worker may run."""
    granted_position: int = 0
    """Batches that the group may have consumed by then: a graph's own counter may stand still."""
    grants: dict[int, GrantOrder] = field(default_factory=dict)
    save: tuple[int, int] = (0, 0)
    has_state: bool = False
    loaded: int = 0
    met: bool = False
    meeting: bool = False
    is_held: bool = False
    joined: bool = False
    step: int | None = None
    position: int = 0
    address: str = ""
    doing: Doing = Doing.LOADING
    steps_per_s: float = 0.0
    batch_rows: int = 0
    watched: dict[str, float] = field(default_factory=dict)
    summaries: dict[str, float] = field(default_factory=dict)
    steps_taken: int = 0
    """By this process, in all generations."""
    input_s: float = 0.0
    """That its steps waited for their batches, and ``save_s`` for copies of the state."""
    save_s: float = 0.0

    @property
    def generation(self) -> int:
        """The last generation that this worker was told to join, 0 before the first."""
        return self.order.generation if self.order else 0

    @property
    def may_step(self) -> bool:
        """Whether a further step is granted."""
        within = self.step is not None and self.step < self.granted
        return within and self.position < self.granted_position

    @property
    def must_hold(self) -> bool:
        """Whether it's asked to stop: not a second time, and not for a generation that a newer one
        has followed.
        """
        asked = self.hold_generation
        return asked > self.held_for and asked >= self.generation

    def save_due(self) -> GrantOrder | None:
        """The order of a save that is due at this step, taken out; None where none is. A graph's own
        counter may step over the number that was agreed on, as one that counts examples does, or
        not come to it for long; then the position counts.
        """
        due = min(
            (step for step, order in self.grants.items() if self._has(step, order)), default=None
        )
        return None if due is None or self.step is None else self.grants.pop(due)

    def _has(self, step: int, order: GrantOrder) -> bool:
        late = order.save_position is not None and self.position >= order.save_position
        return late or step <= (self.step or 0)

    def is_past(self, generation: int) -> bool:
        """Whether this worker won't join ``generation`` any more."""
        return self.closing or self.held_for >= generation or self.generation > generation
