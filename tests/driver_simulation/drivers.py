"""Who gives the command in a simulated world, and what becomes of it?

Rule: a driver is started as the command starts it, and by a supervisor again when it dies; who is
refused, or fenced, asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.decide import driver_restarts
from orchestrator.driver.beginning import Ready, prepared
from orchestrator.driver.claim import Claim
from orchestrator.driver.inbox import Inbox
from orchestrator.driver.observer import Observers
from orchestrator.driver.result import RunResult, ended_before_it_began
from orchestrator.driver.taking_up import begin, tidy
from orchestrator.errors import OrchestratorError
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.run_record import read_run_record
from orchestrator.workers import namespace as namespaces
from tests.driver_simulation.faults import LEASE_S, ORPHAN_S
from tests.driver_simulation.schedule import Process, SimScheduler

if TYPE_CHECKING:
    from tests.driver_simulation.world import World

AGAIN_S = 5.0
"""After which somebody gives the command again that was refused."""


class Watching:
    """What a driver says that it has done."""

    def __init__(self, told: Callable[[Mapping[str, Any]], None]) -> None:
        self._told = told

    def event(self, event: Mapping[str, Any]) -> None:
        self._told(event)

    def progress(self, progress: object) -> None:
        """Nobody looks."""


class Drivers:
    """All drivers of one world, living and dead."""

    def __init__(self, world: World) -> None:
        self._world, self._schedule = world, world.schedule
        self.processes: list[Process] = []
        self.results: list[RunResult] = []
        self.errors: list[OrchestratorError] = []
        self.deaths: tuple[tuple[float, float], ...] = ()

    def start(self) -> None:
        """Give the command, under a supervisor."""
        number = len(self.processes) + 1
        skew_s = self._world.faults.skew_s * (2 * self._world.random.random() - 1)
        process = Process(number, f"driver {number}", skew_s, self._schedule.now_s)
        self.processes.append(process)
        scheduler = SimScheduler(self._schedule, process)
        scheduler.start(lambda: self._drive(scheduler), "main")

    def _drive(self, scheduler: SimScheduler) -> None:
        process = scheduler.process
        try:
            result = self._resume(scheduler)
        except OrchestratorError as error:
            self.errors.append(error)
            self._again(AGAIN_S)
        else:
            fenced = bool(result.error and result.error.get("kind") == "LeaseLost")
            if fenced:
                self._world.fired.add("fenced")
                self._again(AGAIN_S)  # where the other one is no more either
            elif not self._ends(result):
                self._again(AGAIN_S)
            else:
                self.results.append(result)
                self._world.truth.ended(process)
                # Whoever else is about still has its time to notice
                self._schedule.at(ORPHAN_S + 3 * LEASE_S, self._end_if_all_have)
        process.dead = True

    def _end_if_all_have(self) -> None:
        if self.living():
            self._schedule.at(AGAIN_S, self._end_if_all_have)
        else:
            self._schedule.end()

    def _ends(self, result: RunResult) -> bool:
        """Whether the run is over for those who gave the command."""
        raised = bool(result.error and result.error.get("kind") == "UserCodeError")
        return result.status in ("done", "stopped", "end of data") or raised

    def _resume(self, scheduler: SimScheduler) -> RunResult:
        """As ``driver.main._resume`` does it."""
        inbox = Inbox(scheduler)
        output = open_location(f"sim://{self._world.path}")
        observers = Observers([Watching(self._world.truth.told.telling(scheduler.process))])
        record = read_run_record(output)
        ready: Ready | None = None
        if record is None or not namespaces.living_workers(namespaces.namespace_of(output.url)):
            found = prepared(self._world.config, output, record)
            if not isinstance(found, Ready):
                tidy(
                    lambda: Claim.take(self._world.config, output, scheduler),
                    output,
                    found.own_label,
                )
                return ended_before_it_began(output.shown, found)
            ready = found
        with Claim.take(self._world.config, output, scheduler) as claim:
            self._world.truth.told.claimed(scheduler.process, claim)
            return begin(claim, ready, record, None, observers, inbox)

    def _again(self, delay_s: float) -> None:
        if not self.results:
            self._schedule.at(delay_s, lambda: self.start_if_nobody())

    def start_if_nobody(self) -> None:
        if not self.results and all(process.dead for process in self.processes):
            self.start()

    def kill(self, process: Process) -> None:
        """SIGKILL; its supervisor decides what follows."""
        process.dead = True
        lived_s = self._schedule.now_s - process.began_s
        decided = driver_restarts.after_exit(
            -9, lived_s, None, self.deaths, self._schedule.now_s, chosen=False
        )
        if isinstance(decided, driver_restarts.StartAgain):
            self.deaths = decided.deaths
            self._again(decided.delay_s)
        else:
            self._again(AGAIN_S)

    def this_process(self) -> Process:
        process = self._schedule.process
        assert process is not None
        return process

    def is_gone(self, number: int) -> bool:
        """Whether a holder of the lease is seen to be gone."""
        process = self.processes[number - 1]
        return process.dead and self._world.faults.same_machine

    def living(self) -> list[Process]:
        return [process for process in self.processes if not process.dead]
