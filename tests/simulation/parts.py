"""What is a simulated world made of: a state, a worker, and what may go wrong how often?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide.events import Doing, StopCause
from orchestrator.decide.policy import Policy
from orchestrator.decide.save_policy import SavePolicy
from orchestrator.decide.scaling import Sizes


class Broken(AssertionError):
    """An invariant doesn't hold."""


Counter = Callable[[int, int], int]
"""What the graph's own counter says after a step that began at this one and this position."""


def by_one(step: int, position: int) -> int:
    return step + 1


def leaping(step: int, position: int) -> int:
    """As one that counts examples, or that two train ops count."""
    return step + 2 + position % 7


def skipping(step: int, position: int) -> int:
    """As loss scaling that skips, or gradients that are gathered in a conditional: it grows with a
    step in twenty or so.
    """
    return step + (position % 20 == 0)


def standing(step: int, position: int) -> int:
    """It stands still for more than a minute, many times longer than any grant."""
    return step if 400 <= position < 8000 else step + 1


@dataclass(frozen=True)
class State:
    """What training has made of the variables: equal ``chain`` means equal bytes."""

    step: int
    position: int
    chain: int
    nan: int = 0
    """The pass over the bad place in which it went wrong; 0 where it's finite."""

    @property
    def place(self) -> tuple[int, int]:
        return self.step, self.position

    def after_step(self, world_size: int, counter: Counter) -> State:
        return State(
            counter(self.step, self.position),
            self.position + world_size,
            hash((self.chain, self.position, world_size)),
            self.nan,
        )


@dataclass
class SimWorker:
    ident: str
    node: str
    warm: bool = False
    alive: bool = True
    stopped: bool = False
    """SIGSTOP: it neither steps nor speaks."""
    generation: int = 0
    rank: int = 0
    seats: tuple[str, ...] = ()
    state: State | None = None
    held: bool = False
    held_for: int = 0
    hold_generation: int = 0
    joined: bool = False
    granted: int = 0
    granted_position: int = 0
    saves: set[tuple[int, int | None]] = field(default_factory=set)
    heard: tuple[int, int] = (0, 0)
    """The save that it was told of last."""
    writer: str = ""
    attempt: int = 0
    slow: bool = False
    broken: bool = False
    """Its group lost a member while it trained."""
    copying: bool = False
    joining: Doing | None = None
    """What it does until it has joined."""
    writing: int | None = None
    """The generation of the save that it writes, also after its driver's death."""
    moved: int = 0
    in_graph: int = 0
    """The generation in which it's inside a long run of the session."""

    @property
    def may_step(self) -> bool:
        assert self.state is not None
        return self.state.step < self.granted and self.state.position < self.granted_position

    def take_due(self) -> bool:
        """Whether a save is due here; it's taken out."""
        assert self.state is not None
        step, position = self.state.place
        due = {
            save
            for save in self.saves
            if save[0] <= step or (save[1] is not None and save[1] <= position)
        }
        self.saves -= due
        return bool(due)


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong: mean seconds between two of a kind, 0 for never."""

    kill_s: float = 0.0
    stop_s: float = 0.0
    driver_s: float = 0.0
    notice_s: float = 0.0
    save_fails: float = 0.0
    join_fails: float = 0.0
    start_s: float = 3.0
    until_s: float = 60.0
    slow: float = 0.0
    """Probability that a worker lies on a slow node, on which steps take twenty times as long."""
    long_steps: int = 0
    """Every so many steps one takes half a minute on one rank, inside the session's run."""
    drain_s: float = 0.0
    node_s: float = 0.0
    """A node is lost with all its workers, unannounced."""
    room_s: float = 0.0
    flip_s: float = 0.0
    """A bit flips in one rank's state."""
    outage_s: float = 0.0
    """The store answers nobody for ten seconds."""
    stop_at_s: float = 0.0
    fenced_at_s: float = 0.0
    user_fails_at: int = 0
    ends_at: int = 0
    """The step after which the input raises, or ends."""
    ends_after: int = 0
    """The position at which the input ends."""
    nan_at: int = 0
    nan_passes: int = 1
    """The step that makes NaN, the first so many times that it's taken."""
    copy_s: float = 0.0
    write_s: float = 0.2
    load_fails: bool = False
    """No worker but those of the first group can load the graph."""
    damaged: float = 0.0
    """Probability that a checkpoint can't be read by workers though the driver finds it good."""
    missing: float = 0.0
    """Probability that a checkpoint is gone when workers come to read it."""
    misfit: bool = False
    source_gone: bool = False
    """What the run started from isn't there any more."""
    counter: Counter = by_one
    stop_cause: StopCause = StopCause.SIGTERM
    false_alarms: float = 0.0
    """Probability that a member that stops has seen a living peer die."""


def policy(count: int = 2, until: int = 400, **changes: Any) -> Policy:
    sizes = Sizes(
        count,
        changes.pop("smallest", count),
        changes.pop("largest", count),
        changes.pop("standby", 0),
        changes.pop("on_loss", "replace"),
    )
    saving = SavePolicy(
        changes.pop("save_steps", 50),
        changes.pop("save_every_s", None),
        changes.pop("when_busy", "skip"),
        5,
        changes.pop("on_nonfinite", "stop"),
        changes.pop("on_outlier", "warn"),
        in_parts=changes.pop("in_parts", False),
        alike=changes.pop("alike", ()),
        most_links=changes.pop("most_links", 0),
    )
    return Policy(sizes, saving, until, wait_s=changes.pop("wait_s", 600.0), **changes)
