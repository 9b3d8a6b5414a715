"""What has really happened in a simulated world, and does all that's said and done agree with it?

Each method is told of something as it happens and checks what must hold there; ``at_the_end`` checks
what must hold once nothing is left of the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from launch.runs.status_model import RunStatus
from orchestrator.journal.run_events import RunEnded
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from tests.driver_simulation.schedule import Process
from tests.driver_simulation.state import BATCHES
from tests.driver_simulation.store import StoreFaults
from tests.driver_simulation.truth_of_journal import JournalTruth
from tests.driver_simulation.truth_of_output import OutputTruth
from tests.driver_simulation.truth_of_workers import WorkersTruth

if TYPE_CHECKING:
    from tests.driver_simulation.world import World

GONE_S = 5.0
"""After an end in order, everything has been given back."""


class Truth:
    """Sees everything."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.workers, self.output = WorkersTruth(world), OutputTruth(world)
        self.told = JournalTruth(world)
        self.ended_s: float | None = None

    def begin(self) -> None:
        """The world has begun to be."""
        self.world.bucket.watch = self.output.stored
        self.world.ray.killed_by = self.workers.killed_by

    def looked(self, seen: RunStatus, since_s: float) -> None:
        """Somebody was shown the run's status, and began to look at ``since_s``."""
        check, world = self.world.check, self.world
        check(
            (seen.step or 0) <= max(self.workers.taken, default=0),
            "status shows a step that nobody took",
        )
        check(
            seen.state not in ("done", "stopped")
            or self.told.said(RunEnded.WORD)
            or seen.driver == "released",  # one that was refused
            "status says that a run has ended which goes on",
        )
        label = (seen.checkpoint or "").removeprefix(f"{world.output.shown}/")
        check(
            not label or label in self.output.manifests, "status shows a checkpoint that isn't one"
        )
        faults = world.faults
        if not (faults.pauses_s or faults.outage_s or faults.store != StoreFaults()):
            holders = [
                item for item in world.drivers.processes if item.number in self.told.attempts
            ]
            lives = bool(holders) and not holders[-1].dead
            check(
                seen.driver != "dead" or not lives or self.told.held_since() > since_s,
                "status says of a driver that lives that it's dead",
            )

    def ended(self, process: Process) -> None:
        """A driver has ended the run in order; nothing of it is to be left."""
        self.told.in_order.add(process.number)
        self.ended_s = self.world.schedule.now_s
        self.world.schedule.at(GONE_S, self._nothing_is_left)

    def _nothing_is_left(self) -> None:
        # A rival that was about may have taken the run over at its very end
        attempts = [self.told.attempts.get(each.number, 0) for each in self.world.drivers.living()]
        followed = max(attempts, default=0) == self.told.newest_attempt()
        if not followed and self.world.schedule.now_s - (self.ended_s or 0.0) >= GONE_S:
            self.world.check(
                not [actor for actor in self.world.ray.actors if not actor.dead],
                "a worker lives on after the end of its run",
            )
            self.world.check(
                not [group for group in self.world.cluster.groups.values() if not group.removed],
                "a place is reserved after the end of its run",
            )

    def at_the_end(self) -> None:
        """Nothing happens any more."""
        self._nothing_is_left()
        records = self.told.journal()
        for process in self.world.drivers.processes:
            self.told.agrees(process, records)
        # As the next driver would look: what lies beyond a take-over is nobody's
        steps = [found.step for found in list_checkpoints(self.world.output)]
        self.output.pointed_at_the_newest()
        self.told.redone(records)
        self.told.folds(records)
        result = self.world.drivers.results[-1]
        self.world.check(
            max(steps, default=0) >= result.final_step or result.status in ("stopped", "failed"),
            "the run says done and its last step isn't saved",
        )
        faults = self.world.faults
        last = (faults.data_ends_at or faults.input_raises_at) // BATCHES
        self.world.check(
            not last
            or result.final_step == last == max(self.workers.taken)
            # Who had the last step may have died; a run that failed doesn't say that it has it
            or (result.status == "failed" and result.final_step < last),
            "the run ended elsewhere than where its input did",
        )
