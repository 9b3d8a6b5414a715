"""How far may simulated workers run, and what does a step make of their states?

Rule: a step is taken by all members together, or by none."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from tests.simulation.holding import Holding
from tests.simulation.parts import SimWorker

LONG_STEP_S = 30.0


class Stepping(Holding):
    """Groups that train."""

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
