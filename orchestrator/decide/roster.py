"""Who is there?

Rule: a roster is a value, like the run that it stands in. Taking one worker in and counting anew costs
the same among thousands as among ten, and what the rules ask at each event is counted, never looked
for: ``Tally``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import immutables

from orchestrator.decide.doing import Doing


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
        rank: in the present generation; None where it is no member of it.
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
        took: rows, and bytes of them, that it has taken from others as it joined its generation.
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
    rank: int | None = None
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
    took: tuple[int, int] = (0, 0)

    @property
    def place(self) -> tuple[int, int, int] | None:
        """How far its state is: step, batches that were consumed before, since a graph's own counter
        may stand still for a while (loss scaling that skips, gradients that are gathered first), and
        runs of the next step's cycle; None where it has no state.
        """
        return None if self.step is None else (self.step, self.position, self.runs)


class Tally(NamedTuple):
    """How many workers are so.

    Attributes:
        staying: not about to go; ``standbys`` those of them that are warm.
        starting: not warm yet.
        spent: used up, and still there.
        running: members that haven't stopped; ``lacking`` members that haven't joined.
        going: members that are about to go; ``usable`` those of them that aren't used up.
        former: members of an earlier generation, whose rank has moved on.
    """

    staying: int = 0
    standbys: int = 0
    starting: int = 0
    spent: int = 0
    running: int = 0
    lacking: int = 0
    going: int = 0
    usable: int = 0
    former: int = 0

    @classmethod
    def of(cls, worker: Worker) -> Tally:
        """What one worker adds."""
        staying, seated = not worker.leaving, worker.rank is not None
        going = seated and worker.leaving
        return cls(
            staying,
            staying and worker.stage is Stage.WARM,
            worker.stage is Stage.STARTING,
            worker.spent,
            seated and not worker.held,
            seated and not worker.joined,
            going,
            going and not worker.spent,
            worker.stage is Stage.MEMBER and not seated,
        )

    def plus(self, worker: Worker) -> Tally:
        """With one more."""
        return Tally(*map(int.__add__, self, Tally.of(worker)))

    def minus(self, worker: Worker) -> Tally:
        """Without it."""
        return Tally(*map(int.__sub__, self, Tally.of(worker)))


class Roster(Mapping[str, Worker]):
    """The workers by identity; iterating is in the order of identities.

    Args:
        workers: at the beginning.

    Attributes:
        tally: how many of them are what.
    """

    __slots__ = ("_order", "_workers", "tally")

    def __init__(self, workers: Iterable[Worker] = ()) -> None:
        self._workers = immutables.Map({worker.ident: worker for worker in workers})
        self._order: tuple[str, ...] | None = None
        self.tally = functools.reduce(Tally.plus, self._workers.values(), Tally())

    def __getitem__(self, ident: str) -> Worker:
        return self._workers[ident]

    def __contains__(self, ident: object) -> bool:
        return ident in self._workers

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[str]:
        if self._order is None:  # the map's own order is that of hashes, another in each process
            self._order = tuple(sorted(self._workers))
        return iter(self._order)

    def put(self, worker: Worker) -> Roster:
        """With this worker, in place of what was known of it."""
        tally, known = self.tally, self._workers.get(worker.ident)
        if known is None:
            tally = tally.plus(worker)
        elif Tally.of(known) != Tally.of(worker):
            tally = tally.minus(known).plus(worker)
        order = None if known is None else self._order
        return self._made(self._workers.set(worker.ident, worker), order, tally)

    def put_all(self, workers: Iterable[Worker]) -> Roster:
        """With all of these."""
        roster = self
        for worker in workers:
            roster = roster.put(worker)
        return roster

    def without(self, ident: str) -> Roster:
        """Without one that is there."""
        tally = self.tally.minus(self._workers[ident])
        return self._made(self._workers.delete(ident), None, tally)

    @staticmethod
    def _made(
        workers: immutables.Map[str, Worker], order: tuple[str, ...] | None, tally: Tally
    ) -> Roster:
        roster = object.__new__(Roster)
        roster._workers, roster._order, roster.tally = workers, order, tally
        return roster
