"""A run's world in simulated time: workers, storage and a driver that is nothing but
``machine.advance``.

Everything that happens is drawn from one seed. The invariants are checked while it happens; a
broken one raises ``Broken`` with the seed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.aftermath import Going
from orchestrator.decide.budgets import Budgets, from_journal
from orchestrator.decide.phases import Phase
from orchestrator.decide.policy import Policy
from orchestrator.decide.run import Run
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse_all
from tests.simulation.parts import Broken, Faults, SimWorker, State
from tests.simulation.parts import policy as policy

LONG_STEP_S = 30.0


class World:
    """One simulated run. ``advance`` may be replaced by a planted bug."""

    def __init__(
        self,
        seed: int,
        rules: Policy,
        faults: Faults,
        advance: Callable[..., Any] = machine.advance,
    ) -> None:
        self.random = random.Random(seed)
        self.seed, self.rules, self.faults, self.advance = seed, rules, faults, advance
        self.now = 0.0
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.workers: dict[str, SimWorker] = {}
        self.committed: dict[int, State] = {}
        self.chains: dict[tuple[int, int], int] = {(0, 0): 0}
        self.journal: list[dict[str, Any]] = []
        self.finish: act.Finish | None = None
        self.attempt = 1
        self.events = 0
        self.stepping: set[int] = set()
        self.redone = 0
        self.seen = 0
        self.told: set[type] = set()
        self.values: set[Enum] = set()
        self.errors: set[type] = set()
        self.flipped = self.ever_flipped = False
        self.passes = 0
        self.void = 0
        self.store_down = False
        self.damaged: set[int] = set()
        self.accused: dict[int, set[int]] = {}
        self.excluded: set[int] = set()
        self.misfits: set[int] = set()
        self.failed_joins: dict[int, float] = {}
        self.saved_chains: dict[tuple[int, int, int], set[int]] = {}
        budgets = Budgets(100000)
        self.run, actions = machine.begin(rules, ev.Found(0, 0), None, budgets, 0, 0.0)
        self.perform(actions, 1)
        self.at(0.25, self.tick)
        for kind, mean in (
            ("kill", faults.kill_s),
            ("stop", faults.stop_s),
            ("driver", faults.driver_s),
            ("notice", faults.notice_s),
            ("drain", faults.drain_s),
            ("node", faults.node_s),
            ("room", faults.room_s),
            ("flip", faults.flip_s),
            ("outage", faults.outage_s),
        ):
            if mean:
                self.at(
                    self.random.expovariate(1 / mean),
                    lambda kind=kind, mean=mean: self.fault(kind, mean),
                )
        if faults.stop_at_s:
            self.at(faults.stop_at_s, lambda: self.tell(ev.StopAsked(faults.stop_cause, 25.0)))
        if faults.fenced_at_s:
            self.at(
                faults.fenced_at_s,
                lambda: self.tell(
                    ev.Fenced({"kind": "LeaseLost", "message": "attempt 2 took over"})
                ),
            )

    # -- time

    def at(self, delay: float, what: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + delay, self.count, what))

    def play(self, horizon_s: float = 3000.0, most_events: int = 400_000) -> act.Finish:
        for _ in range(most_events):
            if self.finish is not None:
                return self.finish
            self.now, _, what = heapq.heappop(self.queue)
            if self.now > horizon_s:
                break
            what()
        raise Broken(
            f"seed {self.seed}: neither ended nor waited within bounds: {self.run.phase} at {self.now:.1f} s, step {self.run.step}"
        )

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            raise Broken(f"seed {self.seed}, {self.now:.3f} s: {what}")

    # -- driver

    def tell(self, event: ev.Event) -> None:
        if self.finish is not None or self.run is None:
            return
        before = self.run
        self.events += 1
        self.told.add(type(event))
        self.values.update(value for value in vars(event).values() if isinstance(value, Enum))
        if getattr(event, "error", None):
            self.errors.add(type(event))
        self.run, actions = self.advance(before, event, self.now)
        self.check_run(before, self.run)
        if isinstance(event, ev.Held):
            lost = set(before.workers) - set(self.run.workers)
            present = event.generation == before.generation and not before.pieced
            named = {before.seats[rank] for rank in event.dead} if present else set()
            self.check(lost <= named, "one who was seen dead by nobody is gone")
        self.perform(actions, self.attempt)

    def check_run(self, before: Run, after: Run) -> None:
        self.check(after.generation >= before.generation, "a generation number was used again")
        if after.generation == before.generation:
            self.check(after.granted_end >= before.granted_end, "a grant was shortened")
        self.check(
            before.phase is not Phase.ENDED or after.phase is Phase.ENDED, "the end wasn't final"
        )
        self.check(len(set(after.members)) == len(after.members), "one worker has two ranks")
        self.check(set(after.members) <= set(after.workers), "a dead worker is a member")
        spent = len(after.budgets.entries)
        self.check(spent >= len(before.budgets.entries) or self.now > 3600, "a budget grew")

    def soon(self, event: ev.Event, delay: float = 0.002) -> None:
        attempt = self.attempt
        self.at(
            delay * (0.5 + self.random.random()),
            lambda: self.tell(event) if attempt == self.attempt else None,
        )

    def tick(self) -> None:
        self.tell(ev.Tick())
        for worker in list(self.workers.values()):
            if worker.alive and not worker.stopped:
                self.pulse(worker)
        self.at(0.25, self.tick)

    def pulse(self, worker: SimWorker, at: ev.Doing | None = None) -> None:
        may_step = worker.joined and not worker.held and worker.state and worker.may_step
        doing = ev.Doing.STEP if may_step else ev.Doing.IDLE
        if may_step and worker.in_graph == worker.generation:
            doing = ev.Doing.COMPUTING
        if not worker.warm:
            doing = ev.Doing.LOADING
        elif worker.copying:
            doing = ev.Doing.COPYING
        elif worker.joining is not None:
            doing = worker.joining
        worker.moved += worker.copying or worker.writing is not None
        step, position = worker.state.place if worker.state else (0, 0)
        self.soon(
            ev.Progress(
                worker.ident,
                worker.generation,
                step,
                at or doing,
                50.0,
                moved_bytes=worker.moved,
                position=position,
            )
        )

    # -- actions

    def perform(self, actions: tuple[act.Action, ...], attempt: int) -> None:
        for action in actions:
            getattr(self, f"do_{type(action).__name__}")(action)

    def do_Note(self, action: act.Note) -> None:
        record = replace(action.event, at=self.now).record()
        self.journal.append(record)
        if record["event"] == "rolling_back":
            self.void = self.passes
        if record["event"] == "incident":
            self.redone += record["steps_redone"]

    def do_StartWorker(self, action: act.StartWorker) -> None:
        worker = SimWorker(action.worker, f"n{self.random.randrange(4)}", attempt=self.attempt)
        worker.slow = self.random.random() < self.faults.slow
        self.workers[action.worker] = worker
        self.at(
            action.delay_s + self.faults.start_s * (0.5 + self.random.random()),
            lambda: self.warmed(worker),
        )

    def warmed(self, worker: SimWorker) -> None:
        if self.faults.load_fails and int(worker.ident[1:]) > self.rules.sizes.count:
            error = {"kind": "GraphMismatch", "message": "no such op"}
            self.kill(worker, ev.Cause.ERROR, "no such op", error)
        elif worker.alive:
            worker.warm = True
            self.soon(ev.Warm(worker.ident, worker.node, 1, f"{worker.ident}:1"))

    def do_EndWorker(self, action: act.EndWorker) -> None:
        hung = any(worker.alive and worker.stopped for worker in self.workers.values())
        self.check(
            action.cause != ev.Cause.HUNG.value or hung or bool(self.faults.driver_s),
            "somebody was called hung who wasn't",
        )
        worker = self.workers[action.worker]
        flight = self.run.saves.in_flight
        counted = (
            flight is not None
            and flight.writer == worker.ident
            and worker.writing == flight.generation
        )
        released = action.cause == ev.Cause.RELEASED.value
        self.check(
            not (released and counted and worker.alive), "a worker that a save counts on was ended"
        )
        self.kill(worker, ev.Cause(action.cause), action.detail)

    def kill(
        self,
        worker: SimWorker,
        cause: ev.Cause = ev.Cause.DIED,
        detail: str = "",
        error: dict[str, Any] | None = None,
    ) -> None:
        if not worker.alive:
            return
        worker.alive = False
        # Ray says it when the process has given its memory back
        told_s = 0.012 if self.random.random() < 0.5 else 0.5
        self.soon(ev.Gone(worker.ident, cause, detail, error), told_s)
        self.lose_peer(worker)

    def lose_peer(self, gone: SimWorker) -> None:
        """Survivors see the step fail; some of them had it already applied."""
        if not gone.joined:
            return
        group = [
            other
            for other in self.workers.values()
            if other.alive
            and other.joined
            and other.generation == gone.generation
            and not other.held
        ]
        mid_step = gone.generation in self.stepping and self.random.random() < 0.5
        for other in group:
            other.broken = other.may_step
            if other.stopped:
                continue
            if (
                mid_step
                and self.random.random() < 0.5
                and all(mate.state.position <= other.state.position for mate in group)
            ):
                self.apply(other, len(gone.seats))
            if other.may_step:
                self.hold(other, "peer lost")
        self.stepping.discard(gone.generation)

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

    def do_AwaitEnd(self, action: act.AwaitEnd) -> None:
        worker = self.workers[action.worker]
        self.seen += 1
        self.at(10.0, lambda: self.kill(worker, ev.Cause.DIED, "it lived on"))

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

    def do_BreakStep(self, action: act.BreakStep) -> None:
        stopped = any(
            worker.stopped and worker.ident in self.run.workers for worker in self.workers.values()
        )
        self.check(stopped or bool(self.faults.driver_s), "a step was broken off that didn't hang")
        self.hold(self.workers[action.worker], "broken off")
        self.lose_peer(self.workers[action.worker])

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

    def do_Grant(self, action: act.Grant) -> None:
        for ident in action.workers:
            worker = self.workers[ident]
            self.at(
                0.002 * self.random.random(),
                lambda worker=worker, attempt=self.attempt: self.granted(worker, attempt, action),
            )

    def granted(self, worker: SimWorker, attempt: int, action: act.Grant) -> None:
        if not worker.alive or worker.generation != action.generation or worker.state is None:
            return
        # Whoever has leapt over the end of what was granted stands at the first step past it
        stood = not worker.may_step
        worker.granted, worker.writer = max(worker.granted, action.end), action.writer
        worker.granted_position = max(worker.granted_position, action.position)
        late, save = action.save_position, (attempt, action.save)
        if action.saves and save > worker.heard:
            self.check(
                all(step >= worker.state.step or stood for step in action.saves)
                and (late is None or late >= worker.state.position),
                "a save was agreed for a step that is past",
            )
            worker.heard, worker.saves = save, {(step, late) for step in action.saves}
        self.save_if_due(worker)
        self.next_step(worker.generation, worker.seats)

    def next_step(self, generation: int, seats: tuple[str, ...]) -> None:
        group = [self.workers[ident] for ident in seats]
        ready = all(
            w.alive
            and w.joined
            and not w.held
            and not w.stopped
            and not w.copying
            and w.generation == generation
            for w in group
        )
        if not ready or generation in self.stepping or not all(w.may_step for w in group):
            return
        self.check(len({w.state for w in group}) == 1 or self.flipped, "ranks differ")
        if self.input_stops(group):
            return
        self.stepping.add(generation)
        step_s = 0.4 if any(worker.slow for worker in group) else 0.02
        if self.faults.long_steps and (group[0].state.step + 1) % self.faults.long_steps == 0:
            step_s = LONG_STEP_S
            self.random.choice(group).in_graph = generation
        self.at(
            step_s * (0.9 + 0.2 * self.random.random()), lambda: self.end_step(generation, seats)
        )

    def input_stops(self, group: list[SimWorker]) -> bool:
        """Whether one rank's input has no batch for the next step: it says so, and the step is
        abandoned on all ranks.
        """
        step, position = group[0].state.place
        ended = bool(self.faults.ends_after) and position >= self.faults.ends_after
        if not ended and step not in (
            self.faults.user_fails_at or None,
            self.faults.ends_at or None,
        ):
            return False
        victim = self.random.choice(group)
        if ended or step == self.faults.ends_at:
            self.soon(ev.DataEnded(victim.ident, victim.generation, step))
        else:
            self.pulse(victim, ev.Doing.INPUT)
            self.soon(
                ev.UserFailed(
                    victim.ident,
                    victim.generation,
                    step,
                    {"kind": "UserCodeError", "message": "it raised"},
                )
            )
        for worker in group:
            self.hold(worker, "" if worker is victim else "peer lost")
        return True

    def end_step(self, generation: int, seats: tuple[str, ...]) -> None:
        group = [self.workers[ident] for ident in seats]
        if generation not in self.stepping or not all(
            w.alive and w.joined and not w.stopped for w in group
        ):
            return
        self.stepping.discard(generation)
        for worker in group:
            worker.in_graph = 0
            self.apply(worker, len(seats))
            if worker.rank == 0 or not worker.may_step:
                self.pulse(worker)
        self.next_step(generation, seats)

    def apply(self, worker: SimWorker, world_size: int) -> None:
        worker.state = worker.state.after_step(world_size, self.faults.counter)
        if worker.state.step == self.faults.nan_at:
            others = {
                w.state.nan
                for w in self.workers.values()
                if w.state and w.generation == worker.generation and w is not worker
            }
            self.passes = (
                max(self.passes, *others)
                if self.passes in others and self.passes
                else self.passes + 1
            )
            if self.passes <= self.faults.nan_passes:
                worker.state = replace(worker.state, nan=self.passes)
        if self.ever_flipped:
            pass
        elif self.rules.sizes.smallest == self.rules.sizes.largest:
            expected = self.chains.setdefault(worker.state.place, worker.state.chain)
            self.check(
                expected == worker.state.chain,
                f"step {worker.state.step} isn't bit-identical to when it was first done",
            )
        self.save_if_due(worker)

    def save_if_due(self, worker: SimWorker) -> None:
        state = worker.state
        if not worker.take_due():
            return
        if not self.faults.copy_s or worker.held:
            self.save(worker, state)
            return
        worker.copying = True

        def go_on() -> None:
            self.save(worker, state)
            self.next_step(worker.generation, worker.seats)

        self.at(self.faults.copy_s, lambda: self.copied(worker, go_on))

    def save(self, worker: SimWorker, state: State) -> None:
        generation, digests = worker.generation, {"v": state.chain}
        step, position = state.place
        self.saved_chains.setdefault((generation, step, position), set()).add(state.chain)
        if worker.ident != worker.writer:
            self.soon(ev.SaveChecked(worker.ident, generation, step, digests, position), 0.05)
        elif worker.writing is not None:
            self.soon(ev.SaveFailed(generation, step, "busy", busy=True, position=position))
        elif self.store_down or self.random.random() < self.faults.save_fails:
            self.soon(ev.SaveFailed(generation, step, "503", position=position), 0.1)
        else:
            bad = ("v",) if state.nan else ()
            written = ev.SaveWritten(
                worker.ident,
                generation,
                state.step,
                state.position,
                "d",
                "p",
                (state,),
                digests,
                bad,
            )
            worker.writing = generation
            self.at(self.faults.write_s, lambda: self.wrote(worker, written))

    def wrote(self, worker: SimWorker, written: ev.SaveWritten) -> None:
        worker.writing = None
        if worker.alive:
            self.soon(written)

    def do_Commit(self, action: act.Commit) -> None:
        state = action.written.files[0]
        self.check(state.step == action.written.step, "saved bytes aren't those of the agreed step")
        chains = self.saved_chains.get((action.written.generation, *state.place), set())
        # the last save has one writer, whose state is the run's
        alone = self.run.ending is not None
        self.check(len(chains) <= 1 or alone, "a state on which the ranks differ was committed")
        self.check(not state.nan, "a state that isn't finite was committed")
        attempt = self.attempt

        def commit() -> None:
            self.check(attempt == self.attempt, "two writers")
            self.committed[state.step] = state
            self.journal.append({"at": self.now, "event": "save_committed", "step": state.step})
            if self.random.random() < self.faults.damaged:
                self.damaged.add(state.step)
            self.tell(ev.Committed(action.written.generation, state.step))

        self.at(0.05, lambda: commit() if attempt == self.attempt else None)

    def do_FindCheckpoint(self, action: act.FindCheckpoint) -> None:
        living = [
            w.ident
            for w in self.workers.values()
            if w.alive and not w.stopped and w.held and w.state and w.ident in self.run.members
        ]
        self.check(
            not living or self.void == self.passes > 0,
            "storage is read though somebody has the state",
        )
        attempt = self.attempt

        def answer() -> None:
            """The output's one thread has done the commits before it looks."""
            self.excluded = {int(label) for label in action.exclude}
            step = max(set(self.committed) - self.excluded, default=0)
            if self.store_down:
                self.tell(
                    ev.Found(None, detail="503", error={"kind": "StorageUnavailable"}, passing=True)
                )
            elif self.faults.source_gone and not step:
                error = {"kind": "CorruptCheckpoint", "message": "nothing is left"}
                self.tell(ev.Found(None, detail="nothing is left", error=error))
            else:
                self.tell(
                    ev.Found(step, self.committed[step].position if step else 0, label=str(step))
                )

        self.at(0.3, lambda: answer() if attempt == self.attempt else None)

    def do_Finish(self, action: act.Finish) -> None:
        self.finish = action
        kind = (action.error or {}).get("kind")
        could = (
            not self.store_down
            and kind not in ("LeaseLost", "NonFinite")
            and "saves failed in a row" not in action.reason
        )
        could = could and not any(event["event"] == "deadline" for event in self.journal)
        top = max((w.state.place for w in self.workers.values() if self.counts(w)), default=(0, 0))
        best = max((state.place for state in self.committed.values()), default=(0, 0))
        saved = best >= min(top, (action.step or 0, top[1]))
        self.check(not could or saved, "the run ends without what it could have saved")

    def counts(self, worker: SimWorker) -> bool:
        """Whether the worker lives and has a state that wasn't rolled back from."""
        return (
            worker.alive
            and not worker.stopped
            and worker.state is not None
            and not 0 < worker.state.nan <= self.void
        )

    # -- faults

    def fault(self, kind: str, mean: float) -> None:
        if self.now > self.faults.until_s:
            return
        victims = [
            worker for worker in self.workers.values() if worker.alive and not worker.stopped
        ]
        if kind == "driver":
            self.driver_dies()
        elif kind == "room":
            self.soon(ev.Room(1))
        elif kind == "outage":
            self.store_down = True
            self.at(10.0, self.store_is_back)
        elif victims:
            victim = self.random.choice(victims)
            if kind == "kill":
                self.kill(victim)
            elif kind == "stop":
                victim.stopped = True
            elif kind == "flip":
                self.flip(victim)
            elif kind == "node":
                self.lose_node(victim.node, victims)
            elif kind == "drain":
                self.soon(ev.Draining((victim.node,)))
                self.at(10.0, lambda: self.lose_node(victim.node, victims))
            else:
                self.soon(ev.Notice(victim.ident, "SIGTERM"))
                self.at(10.0, lambda: self.kill(victim, ev.Cause.PREEMPTED))
        self.at(self.random.expovariate(1 / mean), lambda: self.fault(kind, mean))

    def lose_node(self, node: str, workers: list[SimWorker]) -> None:
        for worker in workers:
            if worker.node == node:
                self.kill(worker, ev.Cause.NODE)

    def store_is_back(self) -> None:
        self.store_down = False

    def flip(self, victim: SimWorker) -> None:
        if victim.state is not None and victim.joined and not victim.held:
            victim.state = replace(victim.state, chain=victim.state.chain + 1)
            self.flipped = self.ever_flipped = True

    def driver_dies(self) -> None:
        self.attempt += 1
        self.at(3.0, lambda attempt=self.attempt: self.adopt() if attempt == self.attempt else None)
        self.run = None

    def adopt(self) -> None:
        living = [w for w in self.workers.values() if w.alive and not w.stopped]
        for worker in self.workers.values():
            worker.saves = set()
            if worker.alive and worker.stopped:
                worker.alive = False  # the new driver gets no answer and kills it
                self.lose_peer(worker)
        reports = [
            machine.WorkerReport(
                w.ident,
                w.node,
                1,
                w.ident,
                w.generation,
                w.rank if w.generation else None,
                len(w.seats),
                w.state.step if w.state else None,
                w.state.position if w.state else 0,
                w.granted,
                w.held,
                w.joined,
                w.warm,
                granted_position=w.granted_position,
            )
            for w in living
        ]
        generation = max(
            (event["generation"] for event in self.journal if event["event"] == "generation"),
            default=0,
        )
        budgets = from_journal(parse_all(self.journal), 100000, self.now, self.now)
        self.check(
            sum(1 for e in self.journal if e["event"] == "worker_lost" and not e.get("spared"))
            == len(budgets.entries),
            "a budget grew",
        )
        newest = max(self.committed, default=None)
        number = max((int(ident[1:]) for ident in self.workers), default=0) + 1
        past = folded(Going, parse_all(self.journal)).rolled_back
        self.run, actions = machine.adopt(
            self.rules, reports, newest, budgets, generation, number, self.now, past
        )
        self.perform(actions, self.attempt)
