"""What of a step outlives the group that broke under it, and who gives what to whom?

Rule: three things are kept, each until a later run makes it needless: what this rank has computed
of a run (so that only the slots of those who are gone are computed again), the run that it has
begun (all that it takes to apply a result that comes from a peer), and the result of the run that
it applied last (for a peer that was cut off before it had it). ``standing`` says what follows from
what all ranks have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.training.group.collectives import Collectives
from orchestrator.training.group.summation import Accumulator
from orchestrator.training.host.contribution import Contribution
from orchestrator.training.host.standing import (
    Place,
    Standing,
    first_owners,
    handing,
    pack_result,
    slots_kept,
    unpack_result,
)
from orchestrator.training.step.groups import StepRun


@dataclass(frozen=True)
class BegunRun:
    """A run that this rank has begun: enough to apply it once its result is there."""

    run: StepRun
    keys: Mapping[str, np.ndarray]

    @property
    def place(self) -> Place:
        """Which run of the whole training it is."""
        return _place(self.run)


class KeptWork:
    """What one rank keeps of its runs over the break of a group.

    Args:
        slots: batches that make one step.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._computed: tuple[Place, Contribution] | None = None
        self._begun: BegunRun | None = None
        self._done: tuple[Place, dict[str, np.ndarray]] | None = None

    @property
    def can_give(self) -> bool:
        """Whether it has a result that a peer may lack."""
        return self._done is not None

    @property
    def can_take(self) -> bool:
        """Whether it could apply a result that a peer has."""
        return self._begun is not None

    def begin(self, run: StepRun, keys: Mapping[str, np.ndarray]) -> BegunRun:
        """Note that this rank takes a run, whose random operations ``keys`` key."""
        self._begun = BegunRun(run, keys)
        return self._begun

    def contribution(self, run: StepRun, wanted: frozenset[int] | None) -> Contribution:
        """What this rank has computed of a run's first round, and adds to.

        Args:
            wanted: the slots that it contributes now.
        """
        place = _place(run)
        # Of another run, or of slots that somebody else contributes now: a slot that two ranks
        # bring would be added twice, and a sum can't be taken apart again
        if (
            self._computed is None
            or self._computed[0] != place
            or not self._computed[1].slots <= (wanted or frozenset())
        ):
            self._computed = (place, Contribution(Accumulator(self._slots)))
        return self._computed[1]

    def owners(
        self, mesh: Collectives, run: StepRun, served: Sequence[frozenset[int]]
    ) -> list[frozenset[int]]:
        """By rank, the slots that it contributes to the first run after a break; all ranks ask.

        Args:
            served: by rank, the slots whose batches it serves.

        Raises:
            PeerLost: a rank is to take another run next.
        """
        place = _place(run)
        computed = self._computed
        mine = sorted(computed[1].slots) if computed is not None and computed[0] == place else []
        return first_owners(mesh.all_gather(slots_kept(place, mine)), place, served)

    def handed_on(self, mesh: Collectives) -> tuple[BegunRun, dict[str, np.ndarray]] | None:
        """The run that this rank has begun and the result of it that a peer hands on; None where it
        lacks none. All ranks ask, once as their group forms.

        Raises:
            CorruptState: it arrived damaged.
            PeerLost: it isn't a result.
        """
        mine = Standing(
            self._done[0] if self._done else None, self._begun.place if self._begun else None
        )
        standings = [
            Standing.parse(message, rank)
            for rank, message in enumerate(mesh.all_gather(mine.packed()))
        ]
        lacked = handing(standings)
        if lacked is None:
            return None
        given = (
            pack_result(self._done[1])
            if self._done is not None and mesh.rank == lacked.giver
            else b""
        )
        message = mesh.all_gather(given)[lacked.giver]
        if mesh.rank not in lacked.takers:
            return None
        assert self._begun is not None
        return self._begun, unpack_result(message, lacked.giver)

    def applied(self, begun: BegunRun, result: dict[str, np.ndarray]) -> None:
        """Note that a run is applied: what was computed for it is needless, its result is not."""
        self._computed = self._begun = None
        self._done = (begun.place, result)

    def drop_begun(self) -> None:
        """The run that was begun can't be applied any more; what was computed for it stays."""
        self._begun = None

    def forget(self) -> None:
        """Keep nothing: the state isn't the one that these runs were taken from."""
        self._computed = self._begun = self._done = None


def _place(run: StepRun) -> Place:
    return (run.position, run.phase)
