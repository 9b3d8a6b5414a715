"""How do simulated workers begin to live and end, and what do their peers see of an end?"""

from __future__ import annotations

from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from tests.simulation.parts import SimWorker
from tests.simulation.stepping import Stepping


class Deaths(Stepping):
    """Workers that come and go."""

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

    def do_AwaitEnd(self, action: act.AwaitEnd) -> None:
        worker = self.workers[action.worker]
        self.seen += 1
        self.at(10.0, lambda: self.kill(worker, ev.Cause.DIED, "it lived on"))

    def do_BreakStep(self, action: act.BreakStep) -> None:
        stopped = any(
            worker.stopped and worker.ident in self.run.workers for worker in self.workers.values()
        )
        self.check(stopped or bool(self.faults.driver_s), "a step was broken off that didn't hang")
        self.hold(self.workers[action.worker], "broken off")
        self.lose_peer(self.workers[action.worker])
