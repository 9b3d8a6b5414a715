"""How does simulated time pass, and what does the driver, which is nothing but ``machine.advance``, hear
in it?

Rule: everything that happens is drawn from one seed, and the rules are asked one event at a time.
What must hold of a run's state whatever is heard is checked here."""

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
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.phases import Phase
from orchestrator.decide.policy import Policy
from orchestrator.decide.run import Run
from tests.simulation.parts import Broken, Faults, SimWorker, State


class Engine:
    """Time, and the driver. ``advance`` may be replaced by a planted bug."""

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
