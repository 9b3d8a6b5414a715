"""How does a simulated worker stop between two steps, and what does it say then?"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from tests.simulation.parts import SimWorker
from tests.simulation.saving import Saving


class Holding(Saving):
    """Workers that stand still."""

    def hold(self, worker: SimWorker, why: str = "") -> None:
        """Copy the state into host memory where that's still to be done, then say that it's there."""
        if not worker.alive or worker.stopped:
            return
        if worker.joined and self.faults.copy_s:
            if not worker.copying:
                worker.copying = True
                self.at(
                    self.faults.copy_s, lambda: self.copied(worker, lambda: self.held(worker, why))
                )
            return
        self.held(worker, why)

    def copied(self, worker: SimWorker, then: Callable[[], None]) -> None:
        worker.copying = False
        if worker.alive and not worker.stopped:
            then()
            if (
                worker.joined
                and worker.hold_generation > worker.held_for
                and worker.hold_generation >= worker.generation
            ):
                self.hold(worker)

    def held(self, worker: SimWorker, why: str) -> None:
        worker.held, worker.joined = True, False
        worker.held_for = max(worker.generation, worker.hold_generation)
        step, position = (worker.state.step, worker.state.position) if worker.state else (None, 0)
        address = f"{worker.ident}:{self.count}"
        dead = self.seen_dead(worker) if why == "peer lost" else ()
        self.soon(ev.Held(worker.ident, worker.held_for, step, position, address, why, dead=dead))

    def seen_dead(self, worker: SimWorker) -> tuple[int, ...]:
        """Whose end it has seen: most of those who are dead, and now and then one who isn't."""
        if worker.held_for != worker.generation:
            return ()
        chance = self.random.random
        return tuple(
            rank
            for rank, ident in enumerate(worker.seats)
            if ident != worker.ident
            and chance() < (self.faults.false_alarms if self.workers[ident].alive else 0.7)
        )

    def do_Quiesce(self, action: act.Quiesce) -> None:
        for ident in action.workers:
            worker = self.workers[ident]
            worker.hold_generation = max(worker.hold_generation, action.generation)
            self.at(
                0.01,
                lambda worker=worker: (
                    self.hold(worker) if worker.hold_generation > worker.held_for else None
                ),
            )
