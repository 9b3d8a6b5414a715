"""A run's rules, told one event after another: what the tests of this room have in common."""

from __future__ import annotations

from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.phases import Phase
from tests.simulation.world import policy


class Driver:
    """A run, its clock, and the actions of the last event."""

    def __init__(self, **shape: Any) -> None:
        self.now_s = 0.0
        self.rules = policy(**{"save_steps": 1000, **shape})
        self.run, self.actions = machine.begin(
            self.rules, ev.Found(3, 0), None, Budgets(50), 0, 0.0
        )

    def tell(self, *happened: ev.Event, after_s: float = 0.0) -> tuple[act.Action, ...]:
        self.now_s += after_s
        found: list[act.Action] = []
        for event in happened:
            self.run, actions = machine.advance(self.run, event, self.now_s)
            found.extend(actions)
        self.actions = tuple(found)
        return self.actions

    def only(self, kind: type[Any]) -> Any:
        (found,) = self.all(kind)
        return found

    def all(self, kind: type[Any]) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]

    def notes(self) -> list[str]:
        return [action.event.word for action in self.all(act.Note)]

    def warm(self, *workers: str) -> Driver:
        self.tell(*(ev.Warm(worker, f"node-{worker}", 1, f"{worker}:1") for worker in workers))
        return self

    def training(self, *workers: str) -> Driver:
        self.warm(*workers)
        form = self.only(act.Form)
        self.tell(*(ev.Joined(seat.worker, form.generation, form.step) for seat in form.seats))
        assert self.run.phase is Phase.TRAINING
        return self

    def step(self, step: int, *workers: str) -> tuple[act.Action, ...]:
        generation = self.run.generation
        return self.tell(
            *(ev.Progress(worker, generation, step, ev.Doing.STEP, 10.0) for worker in workers),
            after_s=0.1,
        )

    def held(self, step: int, *workers: str) -> tuple[act.Action, ...]:
        return self.tell(
            *(
                ev.Held(worker, self.run.generation, step, 2 * (step - 3), f"{worker}:2", "lost")
                for worker in workers
            )
        )

    def wait(self, seconds: float, *pulses: ev.Progress, every_s: float = 0.5) -> list[act.Action]:
        """Let time pass, in which these signs of life come again and again; everything that was
        done meanwhile.
        """
        done: list[act.Action] = []
        for _ in range(round(seconds / every_s)):
            done += self.tell(*pulses, ev.Tick(), after_s=every_s)
        self.actions = tuple(done)
        return done

    def train(self, seconds: float, *pulses: ev.Progress) -> list[act.Action]:
        """Let time pass in which the members take a step each second, and these signs of life come."""
        done: list[act.Action] = []
        for _ in range(round(seconds)):
            step = self.run.step + 1
            stepping = (
                ev.Progress(ident, self.run.generation, step, ev.Doing.STEP, 1.0)
                for ident in self.run.members
            )
            done += self.tell(*stepping, *pulses, ev.Tick(), after_s=1.0)
        self.actions = tuple(done)
        return done

    def idle(
        self, *workers: str, doing: ev.Doing = ev.Doing.IDLE, moved_bytes: int = 0
    ) -> tuple[ev.Progress, ...]:
        """Signs of life of workers that stand still."""
        found = []
        for ident in workers:
            worker = self.run.workers[ident]
            found.append(
                ev.Progress(
                    ident, worker.generation, worker.step or 0, doing, moved_bytes=moved_bytes
                )
            )
        return tuple(found)

    def reason(self) -> str:
        """Why the run ended."""
        return str(self.only(act.Finish).reason)
