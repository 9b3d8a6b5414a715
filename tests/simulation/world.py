"""A run's world in simulated time: workers, storage and a driver that is nothing but
``machine.advance``.

Everything that happens is drawn from one seed. The invariants are checked while it happens; a
broken one raises ``Broken`` with the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.aftermath import Going
from orchestrator.decide.budgets import from_journal
from orchestrator.decide.policy import Policy
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse_all
from tests.simulation.forming import Forming
from tests.simulation.parts import Faults, SimWorker
from tests.simulation.parts import policy as policy


class World(Forming):
    """One simulated run. ``advance`` may be replaced by a planted bug."""

    def __init__(
        self,
        seed: int,
        rules: Policy,
        faults: Faults,
        advance: Callable[..., Any] = machine.advance,
    ) -> None:
        super().__init__(seed, rules, faults, advance)
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
