"""How is a simulated group formed, and from whose state does it go on?"""

from __future__ import annotations

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from tests.simulation.deaths import Deaths
from tests.simulation.parts import SimWorker, State


class Forming(Deaths):
    """Generations that begin."""

    def do_Form(self, action: act.Form) -> None:
        start = self.committed.get(action.step) if action.step else State(0, 0, 0)
        if action.donor is not None:
            start = self.workers[action.donor].state
        else:
            own = [
                self.workers[seat.worker]
                for seat in action.seats
                if seat.state_from is act.StateFrom.OWN
            ]
            start = own[0].state if own else start
        self.check(
            start is not None and start.step == action.step,
            f"a generation starts at step {action.step} from a state that nobody has",
        )
        living = [
            w.state.place
            for w in self.workers.values()
            if w.held and self.counts(w) and w.ident in self.run.workers
        ]
        self.check(
            not living or (action.step, action.position) >= max(living),
            "an uncommitted step that a survivor had is lost",
        )
        good = [self.committed[step].place for step in set(self.committed) - self.excluded]
        self.check(
            not good or (action.step, action.position) >= max(good), "a committed step is lost"
        )
        self.check(action.position == start.position, "a batch is skipped or served twice")
        self.check(
            not start.nan or start.nan > self.void,
            "it goes on from a state that it rolled back from",
        )
        self.check(not self.misfits, "what no try can help is tried again")
        read = any(seat.state_from is act.StateFrom.CHECKPOINT for seat in action.seats)
        accused = len(self.accused.get(action.step, ()))
        self.check(
            not read or accused < 2, "a checkpoint that was found damaged twice is taken again"
        )
        recent = [at for at in self.failed_joins.values() if self.now - at < 2.0]
        self.check(len(recent) < 4, "formations fail one after the other without a wait")
        if (
            self.run.divergence
            or len({w.state for w in self.workers.values() if w.alive and w.held and w.state}) == 1
        ):
            self.flipped = False
        self.at(0.05 * self.random.random(), lambda: self.pass_on(action, start))

    def pass_on(self, action: act.Form, start: State) -> None:
        """The donor's state is in the object store now, or the donor is dead."""
        donor = None if action.donor is None else self.workers[action.donor]
        passed = donor is None or (donor.alive and not donor.stopped)
        if passed:
            for ident in action.release:
                self.kill(self.workers[ident], ev.Cause.RELEASED)
        seats = tuple(seat.worker for seat in action.seats)
        for seat in action.seats:
            worker = self.workers[seat.worker]
            reads = seat.state_from is act.StateFrom.CHECKPOINT
            worker.joining = ev.Doing.STAGING if reads else ev.Doing.JOINING
            self.at(
                0.1 + 0.1 * self.random.random(),
                lambda w=worker, s=seat: self.join(w, s, action, seats, start, passed),
            )

    def join(
        self,
        worker: SimWorker,
        seat: act.Seat,
        action: act.Form,
        seats: tuple[str, ...],
        start: State,
        passed: bool,
    ) -> None:
        worker.joining = None
        if (
            not worker.alive
            or worker.stopped
            or max(worker.generation, worker.held_for) >= action.generation
        ):
            return  # it was called off meanwhile
        worker.generation, worker.rank, worker.seats = action.generation, seat.rank, seats
        worker.held, worker.joined, worker.saves = False, False, set()
        worker.granted, worker.granted_position = action.step, action.position
        self.check(
            self.rules.in_place or not worker.broken, "a process whose group broke is formed again"
        )
        obstacle = self.obstacle(seat, action)
        if obstacle is not None:
            worker.state = None
            self.failed_joins[action.generation] = self.now
            self.soon(
                ev.JoinFailed(
                    worker.ident,
                    action.generation,
                    obstacle.value,
                    obstacle,
                    {"kind": obstacle.value},
                )
            )
            return
        donor_gone = seat.state_from is act.StateFrom.DONOR and not passed
        if donor_gone or self.random.random() < self.faults.join_fails:
            self.soon(
                ev.JoinFailed(
                    worker.ident,
                    action.generation,
                    "the donor is gone" if donor_gone else "no luck",
                )
            )
            return
        if seat.state_from is act.StateFrom.OWN:
            self.check(
                worker.state == start or self.flipped,
                f"{worker.ident} keeps a state that differs from the group's",
            )
            if self.flipped:
                start = worker.state
        worker.state, worker.joined = start, True
        self.soon(ev.Joined(worker.ident, action.generation, start.step))

    def obstacle(self, seat: act.Seat, action: act.Form) -> ev.Obstacle | None:
        """What keeps a member from reading its checkpoint."""
        if seat.state_from is not act.StateFrom.CHECKPOINT:
            return None
        if self.faults.misfit:
            self.misfits.add(action.generation)
            return ev.Obstacle.MISFIT
        if self.store_down:
            return ev.Obstacle.STORE
        if action.step in self.damaged:
            self.accused.setdefault(action.step, set()).add(action.generation)
            return ev.Obstacle.DAMAGED
        if action.step and self.faults.missing and self.random.random() < self.faults.missing:
            self.committed.pop(action.step, None)
            return ev.Obstacle.MISSING
        return None
