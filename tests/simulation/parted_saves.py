"""A simulated run whose tables are divided among its workers: each rank writes its rows.

Rule: as ``World`` in all else. What was told of a part may come late or twice, a rank may die with
its part unwritten, and the store refuses some. Whatever is committed has the rows of all ranks at
one step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.actions import Outcome
from orchestrator.decide.save_parts import SavedPart
from tests.simulation.parts import Faults, SimWorker, State, policy
from tests.simulation.world import World


@dataclass(frozen=True)
class PartFaults:
    """Probabilities for each part: that its rank dies before it has told, that it's told late, that
    it's told twice, and that its rank stands still until it's written, since a copy has no room.
    """

    lost: float = 0.0
    late: float = 0.0
    doubled: float = 0.0
    still: float = 0.0


LATE_S = 8.0
"""Later than the next save is due, and than a group takes to form anew."""


@dataclass(frozen=True)
class Report:
    """What a rank's data file holds: its rows of the whole state."""

    rank: int
    ranks: int
    state: State


OF_WHOLE_STATES = (
    "storage is read though somebody has the state",
    "an uncommitted step that a survivor had is lost",
)
"""What a run promises whose members have all rows: where one of these is lost nobody has its rows,
and how the group goes on is no question of saving.
"""


class PartedWorld(World):
    """A run that saves in parts.

    Attributes:
        happened: which faults of parts have.
    """

    def __init__(self, *given: Any, parts: PartFaults, **more: Any) -> None:
        self.parts = parts
        self.happened: set[str] = set()
        self.still: dict[str, int] = {}
        super().__init__(*given, **more)

    def check(self, holds: bool, what: str) -> None:
        if what not in OF_WHOLE_STATES:
            super().check(holds, what)

    def do_Grant(self, action: act.Grant) -> None:
        self.check(
            not action.saves or action.parts == self.run.world_size,
            "a save isn't told to be in as many parts as there are ranks",
        )
        super().do_Grant(action)

    def save(self, worker: SimWorker, state: State) -> None:
        about = (worker.generation, *state.place)
        self.saved_chains.setdefault(about, set()).add(state.chain)
        number = worker.heard[1]
        if worker.writing is not None:
            self._fail(worker, state, "busy", number)
        elif self.store_down or self.random.random() < self.faults.save_fails:
            self._fail(worker, state, "503", number)
        else:
            worker.writing = worker.generation
            stands = self.parts.still and worker.joined and not worker.held
            if stands and self._happens("still", self.parts.still):
                self.still[worker.ident] = worker.generation
            event = self._told(worker, state, number)
            self.at(
                self.faults.write_s * (0.5 + self.random.random()),
                lambda: self.wrote_part(worker, event),
            )

    def pulse(self, worker: SimWorker, at: ev.Doing | None = None) -> None:
        stands = self._stands(worker.ident, worker.generation) and not worker.held
        super().pulse(worker, at or (ev.Doing.SAVING if stands else None))

    def next_step(self, generation: int, seats: tuple[str, ...]) -> None:
        if not any(self._stands(ident, generation) for ident in seats):
            super().next_step(generation, seats)

    def _stands(self, ident: str, generation: int) -> bool:
        """Whoever joins another generation stands still no longer."""
        return self.still.get(ident) == generation

    def _fail(self, worker: SimWorker, state: State, why: str, number: int) -> None:
        step, position = state.place
        about = (worker.generation, step, why, why == "busy", position, worker.ident, number)
        self.soon(ev.SaveFailed(*about), 0.1)

    def _told(
        self, worker: SimWorker, state: State, number: int
    ) -> ev.SaveWritten | ev.SaveChecked:
        digests = {"dense": state.chain}
        report = Report(worker.rank, len(worker.seats), state)
        bad = ("rows",) if state.nan else ()
        part = SavedPart(worker.rank, *state.place, number, report, (f"data {worker.rank}",), bad)
        about = (worker.ident, worker.generation, state.step)
        if worker.ident == worker.writer:
            return ev.SaveWritten(*about, state.position, "d", "p", (), digests, part=part)
        return ev.SaveChecked(*about, digests, state.position, part, number)

    def wrote_part(self, worker: SimWorker, event: ev.SaveWritten | ev.SaveChecked) -> None:
        worker.writing = None
        stood = self.still.pop(worker.ident, None)
        if not worker.alive:
            return
        if stood is not None and stood != worker.generation:
            assert event.part is not None
            about = (event.generation, event.step, "broken off", False, event.position)
            self.soon(ev.SaveFailed(*about, worker.ident, event.part.save))
            return
        if self._happens("lost", self.parts.lost):
            self.kill(worker)
            return
        self.soon(event, LATE_S if self._happens("late", self.parts.late) else 0.002)
        if self._happens("doubled", self.parts.doubled):
            self.soon(event, LATE_S * self.random.random())
        if stood is not None:
            self.next_step(worker.generation, worker.seats)

    def _happens(self, what: str, probability: float) -> bool:
        happens = self.now < self.faults.until_s and self.random.random() < probability
        if happens:
            self.happened.add(what)
        return happens

    def do_Commit(self, action: act.Commit) -> None:
        written = action.written
        reports: tuple[Report, ...] = written.reports
        ranks = {report.ranks for report in reports}
        self.check(
            len(ranks) == 1
            and sorted(report.rank for report in reports) == list(range(*ranks))
            and len(written.files) == len(reports),
            "a checkpoint is committed that lacks a rank's rows",
        )
        places = {report.state.place for report in reports}
        self.check(
            places == {(written.step, written.position)},
            "a checkpoint is committed whose rows are of different steps",
        )
        super().do_Commit(act.Commit(_whole(written)))

    def do_Finish(self, action: act.Finish) -> None:
        """Where the group isn't complete at one step nobody can save."""
        group = [self.workers[ident] for ident in self.run.seats]
        whole = all(self.counts(worker) for worker in group) and not self.run.pieced
        places = {worker.state.place for worker in group if worker.state is not None}
        if action.outcome is Outcome.DONE or (whole and len(places) == 1):
            super().do_Finish(action)
        self.finish = action


def _whole(written: ev.SaveWritten) -> ev.SaveWritten:
    return replace(written, files=(written.reports[0].state,), reports=())


SCHEDULES: dict[str, tuple[dict[str, Any], Faults, PartFaults, set[str]]] = {
    "calm": ({"count": 3}, Faults(), PartFaults(), {"save_committed"}),
    "parts that are lost": (
        {"count": 3, "standby": 1, "until": 300, "save_steps": 20},
        Faults(until_s=30.0),
        PartFaults(lost=0.2),
        {"save_lost", "save_committed"},
    ),
    "parts that come late": (
        {"count": 3, "standby": 1, "until": 500, "save_steps": 20},
        Faults(kill_s=5.0, until_s=30.0),
        PartFaults(late=0.3),
        {"save_skipped", "save_lost"},
    ),
    "parts that come twice": (
        {"count": 3, "until": 500, "save_steps": 20},
        Faults(save_fails=0.06, until_s=30.0),
        PartFaults(doubled=0.5),
        {"save_failed"},
    ),
    "parts that the store refuses": (
        {"count": 4, "until": 300, "save_steps": 20},
        Faults(save_fails=0.06, until_s=30.0),
        PartFaults(),
        {"save_failed", "save_committed"},
    ),
    "ranks that stand still": (
        {"count": 3, "standby": 1, "until": 300, "save_steps": 20},
        Faults(kill_s=20.0, save_fails=0.03, until_s=100.0, write_s=15.0),
        PartFaults(still=0.5, late=0.05),
        {"save_committed", "save_lost"},
    ),
    "slow writes and notices": (
        {"count": 2, "standby": 2, "until": 1000},
        Faults(notice_s=6.0, write_s=3.0),
        PartFaults(),
        {"reform_planned", "save_committed"},
    ),
    "all of it": (
        {"count": 4, "smallest": 2, "largest": 6, "standby": 1, "save_steps": 15},
        Faults(6.0, 15.0, 12.0, 20.0, 0.03, write_s=1.0),
        PartFaults(0.02, 0.1, 0.2),
        {"save_lost", "save_failed", "adopted"},
    ),
}


def play(name: str, seed: int) -> PartedWorld:
    """A schedule's run with this seed. Raises Broken."""
    shape, faults, parts, _ = SCHEDULES[name]
    world = PartedWorld(seed, policy(in_parts=True, **shape), faults, parts=parts)
    world.play()
    return world
