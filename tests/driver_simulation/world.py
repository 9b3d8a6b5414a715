"""One run of the real driver in a simulated world.

It takes the lease, plans, starts or adopts workers, and its loop, storage thread and heartbeat work
as they are. Around it everything goes wrong that ``Faults`` names, until ``until_s``; then the run
must come to its end.
"""

from __future__ import annotations

from typing import Any

from launch.runs.status import status
from orchestrator.config import parse_config
from orchestrator.driver.result import RunResult
from orchestrator.errors import OrchestratorError
from orchestrator.store.objects.location import Location, open_location
from orchestrator.workers.orders import CheckpointFiles, JoinOrder
from tests.driver_simulation.actors import Actor
from tests.driver_simulation.cluster import Cluster
from tests.driver_simulation.drivers import Drivers
from tests.driver_simulation.exchange import STEP_S, SimExchange
from tests.driver_simulation.faults import LEASE_S, ORPHAN_S, Faults, Mishaps
from tests.driver_simulation.patches import simulated
from tests.driver_simulation.ray import SimRay
from tests.driver_simulation.schedule import Process, Schedule, SimScheduler
from tests.driver_simulation.state import SimState, files_of_state, start_state
from tests.driver_simulation.store import Bucket
from tests.driver_simulation.truth import Truth
from tests.driver_simulation.without_threads import WRITE_S
from tests.driver_simulation.worker import SimWorker
from tests.simulation.parts import Broken

HORIZON_S = 1500.0
LOOK_S = 25.0
"""Between two looks of somebody at the run's status."""


class World:
    """Everything around the driver, under one seed."""

    path = "out"

    def __init__(self, seed: int, faults: Faults | None = None, **settings: Any) -> None:
        self.seed, self.faults = seed, faults or Faults()
        self.schedule = Schedule(seed)
        self.random = self.schedule.random
        self.bucket = Bucket(self.schedule, self.faults.store)
        self.cluster = Cluster(self.schedule, self.faults.slots)
        self.ray = SimRay(self.schedule, self.faults.calls, self.cluster)
        self.ray.make = self._made
        self.drivers = Drivers(self)
        self.fired: set[str] = set()
        self.heard: set[type] = set()
        """Kinds of events that were judged by some driver."""
        self.looks = 0
        self.exchanges: dict[tuple[int, tuple[str, ...]], SimExchange] = {}
        self.settings = settings
        self.step_s = settings.pop("step_s", STEP_S)
        self.large = settings.pop("large", False)
        self.write_s = settings.pop("write_s", WRITE_S)
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
        self.copies = self.config.table_copies or 1
        self.truth = Truth(self)
        for name, data in files_of_state("m-0", start_state()):
            self.bucket.objects[f"src/{name}"] = (data, 0.0)

    # -- for tests

    def play(self) -> RunResult:
        """Live until the run has ended and nothing is left of it. Raises Broken."""
        with simulated(self):
            self.output: Location = open_location(f"sim://{self.path}")
            self.truth.begin()
            self.schedule.at(0.0, self.drivers.start_if_nobody)
            self.schedule.at(LOOK_S * self.random.random(), self._look_on)
            Mishaps(self).plan()
            self.schedule.play(HORIZON_S)
            self.schedule.task = self.schedule.process = None
            self.check(
                bool(self.drivers.results) and self.schedule.now_s < HORIZON_S,
                "the run neither ended nor waited within bounds",
            )
            self.truth.at_the_end()
        return self.drivers.results[-1]

    def everything_fired(self) -> set[str]:
        """What went wrong, and which events the drivers heard."""
        heard = {kind.__name__ for kind in self.heard}
        return self.fired | self.bucket.fired | self.ray.fired | heard

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            broken = Broken(f"seed {self.seed}, {self.schedule.now_s:.3f} s: {what}")
            # Production code may be under way here, which survives what is raised in it
            self.schedule.fail(broken)
            raise broken

    # -- somebody who looks

    def _look_on(self) -> None:
        self.looks += 1
        process = Process(0, f"status {self.looks}", began_s=self.schedule.now_s)
        scheduler = SimScheduler(self.schedule, process)
        scheduler.start(lambda: self._look(scheduler), "status")
        if not self.drivers.results:
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
        self.truth.workers.made(worker)
        return worker

    def processes(self) -> list[SimWorker]:
        """Of all workers that live."""
        return [actor.process for actor in self.ray.actors if not actor.dead and actor.process]

    def exchange(self, order: JoinOrder) -> SimExchange:
        key = (order.generation, order.addresses)
        if key not in self.exchanges:
            self.exchanges[key] = SimExchange(
                self.schedule, order.world_size, self.step_s, self.truth.workers.group_steps
            )
        return self.exchanges[key]

    def orphaned(self, worker: SimWorker) -> None:
        """It took its driver for dead: its place goes with it."""
        self.truth.workers.orphaned(worker)
        self.ray.remove_placement_group(worker.actor.group)

    def stepped(self, worker: SimWorker, state: SimState) -> None:
        self.truth.workers.stepped(worker, state)

    def restored(self, worker: SimWorker, checkpoint: CheckpointFiles, state: SimState) -> None:
        self.truth.workers.restored(worker, checkpoint, state)

    def obeyed(self, worker: SimWorker, attempt: int, method: str) -> None:
        self.truth.workers.obeyed(worker, attempt, method)
