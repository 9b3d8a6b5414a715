"""One run of the real driver in a simulated world.

A driver is started as the command starts it, and by a supervisor again when it dies. It takes the
lease, plans, starts or adopts workers, and its loop, storage thread and heartbeat work as they are.
Around it everything goes wrong that ``Faults`` names, until ``until_s``; then the run must come to
its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from launch.runs.status import status
from orchestrator.config import parse_config
from orchestrator.decide import driver_restarts
from orchestrator.decide import events as ev
from orchestrator.driver.beginning import Ready, prepared
from orchestrator.driver.claim import Claim
from orchestrator.driver.inbox import Inbox
from orchestrator.driver.observer import Observers
from orchestrator.driver.result import RunResult
from orchestrator.driver.taking_up import begin, tidy
from orchestrator.errors import OrchestratorError
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.run_record import read_run_record, request_stop
from orchestrator.workers import namespace as namespaces
from orchestrator.workers.orders import CheckpointFiles, JoinOrder
from tests.driver_simulation.exchange import SimExchange
from tests.driver_simulation.patches import simulated
from tests.driver_simulation.ray import NODES, Actor, CallFaults, SimRay
from tests.driver_simulation.schedule import Process, Schedule, SimScheduler
from tests.driver_simulation.state import SimState, files_of_state, start_state
from tests.driver_simulation.store import Bucket, StoreFaults
from tests.driver_simulation.truth import ORPHAN_S, Truth
from tests.driver_simulation.worker import SimWorker
from tests.simulation.parts import Broken

HORIZON_S = 1500.0
LEASE_S = 6.0
LOOK_S = 25.0
"""Between two looks of somebody at the run's status."""
ASK_AGAIN_S = 60.0
"""After which a run that goes on is asked once more to stop."""
AGAIN_S = 5.0
"""After which somebody gives the command again that was refused."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong: mean seconds between two of a kind, 0 for never; or probabilities.

    Attributes:
        store, calls: of each request, and of each call.
        outage_s: the store answers nobody for some seconds.
        hangs_s: a worker is stopped (SIGSTOP).
        dies_s: a driver is killed. pauses_s: it's stopped for up to three leases, and goes on.
        rival_s: the same command is given once more, on another machine.
        damage_s: a bit of a committed checkpoint flips in the store.
        skew_s: by so much, up or down, machines differ in what time it is.
        same_machine: whether a dead driver's process is seen to be gone.
        stop_at_s: somebody asks the run to stop.
    """

    store: StoreFaults = field(default_factory=StoreFaults)
    calls: CallFaults = field(default_factory=CallFaults)
    kill_s: float = 0.0
    hangs_s: float = 0.0
    notice_s: float = 0.0
    node_s: float = 0.0
    dies_s: float = 0.0
    pauses_s: float = 0.0
    rival_s: float = 0.0
    outage_s: float = 0.0
    damage_s: float = 0.0
    skew_s: float = 0.0
    same_machine: bool = True
    stop_at_s: float = 0.0
    until_s: float = 60.0


class Watching:
    """What a driver says that it has done."""

    def __init__(self, told: Callable[[Mapping[str, Any]], None]) -> None:
        self._told = told

    def event(self, event: Mapping[str, Any]) -> None:
        self._told(event)

    def progress(self, progress: object) -> None:
        """Nobody looks."""


class World:
    """Everything around the driver, under one seed."""

    path = "out"

    def __init__(self, seed: int, faults: Faults | None = None, **settings: Any) -> None:
        self.seed, self.faults = seed, faults or Faults()
        self.schedule = Schedule(seed)
        self.random = self.schedule.random
        self.bucket = Bucket(self.schedule, self.faults.store)
        self.ray = SimRay(self.schedule, self.faults.calls)
        self.ray.make = self._made
        self.draining: set[str] = set()
        self.drivers: list[Process] = []
        self.results: list[RunResult] = []
        self.errors: list[OrchestratorError] = []
        self.fired: set[str] = set()
        self.looks = 0
        self.deaths: tuple[tuple[float, float], ...] = ()
        self.exchanges: dict[tuple[int, tuple[str, ...]], SimExchange] = {}
        self.settings = settings
        self.config = parse_config(
            {
                "source": "sim://src/m-0",
                "output": f"sim://{self.path}",
                "until_step": settings.pop("until", 60),
                "save_steps": settings.pop("save_steps", 10),
                "workers": settings.pop("workers", {"count": 2, "standby": 1}),
                "batches_per_step": 4,
                "lease_s": LEASE_S,
                "orphan_timeout_s": ORPHAN_S,
                "tensorboard": False,
                "prove": False,
                "max_losses_per_hour": 1000,
                **settings,
            }
        )
        self.divided = bool(self.config.shard_tables)
        self.truth = Truth(self)
        for name, data in files_of_state("m-0", start_state()):
            self.bucket.objects[f"src/{name}"] = (data, 0.0)

    # -- for tests

    def play(self) -> RunResult:
        """Live until the run has ended and nothing is left of it. Raises Broken."""
        with simulated(self):
            self.output: Location = open_location(f"sim://{self.path}")
            self.truth.begin()
            self.schedule.at(0.0, self._start_if_nobody)
            self.schedule.at(LOOK_S * self.random.random(), self._look_on)
            self._plan_faults()
            self.schedule.play(HORIZON_S)
            self.schedule.task = self.schedule.process = None
            self.check(
                bool(self.results) and self.over,
                "the run neither ended nor waited within bounds",
            )
            self.truth.at_the_end()
        return self.results[-1]

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            broken = Broken(f"seed {self.seed}, {self.schedule.now_s:.3f} s: {what}")
            # Production code may be under way here, which survives what is raised in it
            self.schedule.fail(broken)
            raise broken

    # -- drivers

    def start_driver(self) -> None:
        """Give the command, under a supervisor."""
        number = len(self.drivers) + 1
        skew_s = self.faults.skew_s * (2 * self.random.random() - 1)
        process = Process(number, f"driver {number}", skew_s, self.schedule.now_s)
        self.drivers.append(process)
        scheduler = SimScheduler(self.schedule, process)
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
                self.fired.add("fenced")
                self._again(AGAIN_S)  # where the other one is no more either
            elif not self._ends(result):
                self._again(AGAIN_S)
            else:
                self.results.append(result)
                self.truth.ended(process)
                # Whoever else is about still has its time to notice
                self.schedule.at(ORPHAN_S + 3 * LEASE_S, self.end)
        process.dead = True

    def _ends(self, result: RunResult) -> bool:
        """Whether the run is over for those who gave the command."""
        return result.status in ("done", "stopped")

    def _resume(self, scheduler: SimScheduler) -> RunResult:
        """As ``driver.main._resume`` does it."""
        inbox = Inbox(scheduler)
        output = open_location(f"sim://{self.path}")
        observers = Observers([Watching(self.truth.telling(scheduler.process))])
        record = read_run_record(output)
        ready: Ready | None = None
        if record is None or not namespaces.living_workers(namespaces.namespace_of(output.url)):
            found = prepared(self.config, output, record)
            if not isinstance(found, Ready):
                from orchestrator.driver.result import ended_before_it_began

                tidy(lambda: Claim.take(self.config, output, scheduler), output, found.own_label)
                return ended_before_it_began(output.shown, found)
            ready = found
        with Claim.take(self.config, output, scheduler) as claim:
            self.truth.claimed(scheduler.process, claim)
            return begin(claim, ready, record, None, observers, inbox)

    def _again(self, delay_s: float) -> None:
        if not self.results:
            self.schedule.at(delay_s, lambda: self._start_if_nobody())

    def _start_if_nobody(self) -> None:
        if not self.results and all(process.dead for process in self.drivers):
            self.start_driver()

    def kill_driver(self, process: Process) -> None:
        """SIGKILL; its supervisor decides what follows."""
        process.dead = True
        lived_s = self.schedule.now_s - process.began_s
        decided = driver_restarts.after_exit(
            -9, lived_s, None, self.deaths, self.schedule.now_s, chosen=False
        )
        if isinstance(decided, driver_restarts.StartAgain):
            self.deaths = decided.deaths
            self._again(decided.delay_s)
        else:
            self._again(AGAIN_S)

    def this_process(self) -> Process:
        process = self.schedule.process
        assert process is not None
        return process

    def is_gone(self, number: int) -> bool:
        """Whether a holder of the lease is seen to be gone."""
        process = self.drivers[number - 1]
        return process.dead and self.faults.same_machine

    def end(self) -> None:
        self.schedule.end()

    @property
    def over(self) -> bool:
        return self.schedule.now_s < HORIZON_S

    # -- somebody who looks

    def _look_on(self) -> None:
        self.looks += 1
        process = Process(0, f"status {self.looks}", began_s=self.schedule.now_s)
        scheduler = SimScheduler(self.schedule, process)
        scheduler.start(lambda: self._look(scheduler), "status")
        if not self.results:
            self.schedule.at(LOOK_S * (0.5 + self.random.random()), self._look_on)

    def _look(self, scheduler: SimScheduler) -> None:
        now, wait, wall = scheduler.monotonic, scheduler.sleep, scheduler.unix
        try:
            seen = status(f"sim://{self.path}", now=now, wait=wait, wall=wall)
        except OrchestratorError:
            return  # there's no run yet, or the store doesn't answer
        self.truth.looked(seen, scheduler.process.began_s)

    # -- workers

    def _made(self, actor: Actor, arguments: tuple[Any, ...]) -> SimWorker:
        ident, attempt, setup = arguments
        worker = SimWorker(self, actor, ident, attempt, setup)
        self.truth.made(worker)
        return worker

    def processes(self) -> list[SimWorker]:
        """Of all workers that live."""
        return [actor.process for actor in self.ray.actors if not actor.dead and actor.process]

    def exchange(self, order: JoinOrder) -> SimExchange:
        key = (order.generation, order.addresses)
        if key not in self.exchanges:
            self.exchanges[key] = SimExchange(
                self.schedule, order.world_size, self.truth.group_steps
            )
        return self.exchanges[key]

    def orphaned(self, worker: SimWorker) -> None:
        """It took its driver for dead: its place goes with it."""
        self.truth.orphaned(worker)
        self.ray.remove_placement_group(worker.actor.group)

    def stepped(self, worker: SimWorker, state: SimState) -> None:
        self.truth.stepped(worker, state)

    def restored(self, worker: SimWorker, checkpoint: CheckpointFiles, state: SimState) -> None:
        self.truth.restored(worker, checkpoint, state)

    def obeyed(self, worker: SimWorker, attempt: int, method: str) -> None:
        self.truth.obeyed(worker, attempt, method)

    def room(self) -> int:
        return 1

    # -- faults

    def _plan_faults(self) -> None:
        kinds: dict[str, Callable[[], bool]] = {
            "kill_s": self._kill,
            "hangs_s": self._hang,
            "notice_s": self._notice,
            "node_s": self._lose_node,
            "dies_s": self._driver_dies,
            "pauses_s": self._driver_pauses,
            "rival_s": self._rival,
            "outage_s": self._outage,
            "damage_s": self._damage,
        }
        for name, fault in kinds.items():
            mean_s = getattr(self.faults, name)
            if mean_s:
                self._soon(name, mean_s, fault)
        if self.faults.stop_at_s:
            self.schedule.at(self.faults.stop_at_s, self._ask_to_stop)

    def _soon(self, name: str, mean_s: float, fault: Callable[[], bool]) -> None:
        def happen() -> None:
            if self.schedule.now_s < self.faults.until_s and not self.results:
                if fault():
                    self.fired.add(name)
                self._soon(name, mean_s, fault)

        self.schedule.at(self.random.expovariate(1 / mean_s), happen)

    def _victim(self) -> SimWorker | None:
        living = [worker for worker in self.processes() if not worker.stopped]
        return self.random.choice(living) if living else None

    def _kill(self) -> bool:
        victim = self._victim()
        if victim is not None:
            self.ray.die(victim.actor)
        return victim is not None

    def _hang(self) -> bool:
        victim = self._victim()
        if victim is not None:
            victim.stopped = True
        return victim is not None

    def _notice(self) -> bool:
        victim = self._victim()
        if victim is not None:
            victim.buffer.put(ev.Notice(victim.ident, "SIGTERM"))
            self.schedule.at(8.0, lambda: self.ray.die(victim.actor))
        return victim is not None

    def _lose_node(self) -> bool:
        node = self.random.choice(NODES)
        lost = [worker for worker in self.processes() if worker.actor.group.node == node]
        for worker in lost:
            self.ray.die(worker.actor, "its node has died")
        return bool(lost)

    def _living_drivers(self) -> list[Process]:
        return [process for process in self.drivers if not process.dead]

    def _driver_dies(self) -> bool:
        living = self._living_drivers()
        if living:
            self.kill_driver(self.random.choice(living))
        return bool(living)

    def _driver_pauses(self) -> bool:
        living = self._living_drivers()
        if living:
            length_s = 3 * LEASE_S * self.random.random()
            self.random.choice(living).paused_until_s = self.schedule.now_s + length_s
        return bool(living)

    def _rival(self) -> bool:
        if len(self._living_drivers()) < 3:
            self.start_driver()
        return True

    def _outage(self) -> bool:
        self.bucket.down_until_s = self.schedule.now_s + 3 * LEASE_S * self.random.random()
        return True

    def _damage(self) -> bool:
        names = [
            name
            for name in self.bucket.objects
            if name.startswith(f"{self.path}/a") and ".data-" in name
        ]
        if names:
            name = self.random.choice(sorted(names))
            data = bytearray(self.bucket.objects[name][0])
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            self.bucket.objects[name] = (bytes(data), self.bucket.objects[name][1])
            self.truth.damaged.add(name)
        return bool(names)

    def _ask_to_stop(self) -> None:
        self.fired.add("stop_at_s")
        request_stop(self.output, asked_by="the world")
        # A driver that is killed when it has followed the request is started again by its supervisor
        self.schedule.at(ASK_AGAIN_S, lambda: None if self.results else self._ask_to_stop())
