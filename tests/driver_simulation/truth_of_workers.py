"""Do simulated workers obey whom they should, and train from states that the run really had?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.workers.orders import CheckpointFiles, GrantOrder
from tests.driver_simulation.actors import Actor
from tests.driver_simulation.faults import ORPHAN_S
from tests.driver_simulation.schedule import Process
from tests.driver_simulation.state import SimState, rows_held, table_at

if TYPE_CHECKING:
    from tests.driver_simulation.exchange import SimExchange
    from tests.driver_simulation.worker import SimWorker
    from tests.driver_simulation.world import World


class WorkersTruth:
    """What all workers of one world have done."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.obeyed_by: dict[str, int] = {}
        self.ends: dict[tuple[SimWorker, int], dict[int, int]] = {}
        """By worker's process and generation, how far each attempt let it run at last. Who lost its
        journal gives a name once more, after all of that name are gone.
        """
        self.contact_s: dict[str, float] = {}
        """By worker, when a driver last spoke to it."""
        self.taken: dict[int, set[tuple[int, tuple[str, ...]]]] = {}
        """By step, the groups that took it: number and members. A driver whose journal was lost
        with it may leave a number to the next one.
        """

    def killed_by(self, process: Process | None, actor: Actor) -> None:
        if process is None:
            return
        self.world.check(
            self.world.truth.told.attempts.get(process.number)
            == self.world.truth.told.newest_attempt()
            or not self.world.faults.store.exclusive,
            "a driver that another has followed ended a worker",
        )

    def obeyed(self, worker: SimWorker, attempt: int, method: str) -> None:
        """A worker did what a driver asked of it."""
        seen = self.obeyed_by.get(worker.ident, 0)
        self.world.check(
            attempt >= seen, "a worker obeyed a driver after it had obeyed the next one"
        )
        self.obeyed_by[worker.ident] = max(attempt, seen)
        self.contact_s[worker.ident] = self.world.schedule.now_s

    def granted(self, worker: SimWorker, attempt: int, order: GrantOrder) -> None:
        """A worker was told how far it may run."""
        group = worker.mailbox.order
        if group is None or group.generation != order.generation:
            return
        self.ends.setdefault((worker, order.generation), {})[attempt] = order.end
        members = [
            other
            for other in self.world.processes()
            if other.mailbox.order is not None
            and other.mailbox.order.generation == order.generation
            and other.mailbox.order.addresses == group.addresses
            and self.obeyed_by.get(other.ident) == attempt
        ]
        before = [
            end
            for member in members
            for earlier, end in self.ends.get((member, order.generation), {}).items()
            if earlier < attempt
        ]
        self.world.check(
            order.end >= max(before, default=0),
            "a group that was taken over may run less far than a member was told before",
        )

    def made(self, worker: SimWorker) -> None:
        """A worker's process has begun."""
        store = self.world.faults.store
        # Two drivers may have one number until one hears of it; and a journal that isn't listed yet
        # names nobody
        if not store.exclusive or store.lists_late_s:
            return
        known = self.world.truth.told.known[worker._attempt]
        self.world.check(worker.ident not in known, "the name of a worker was used twice")
        known.add(worker.ident)

    def orphaned(self, worker: SimWorker) -> None:
        """It took its driver for dead."""
        contact_s = self.contact_s.get(worker.ident, 0.0)
        self.world.check(
            self.world.schedule.now_s - contact_s > ORPHAN_S / 2,
            "a worker to which a driver spoke took it for dead",
        )

    def group_steps(self, exchange: SimExchange) -> None:
        """All members of a group have come for a step."""
        states = {member.trainer.current for member in exchange.members.values()}
        good = all(state is not None and state.is_good for state in states)
        self.world.check(good, "a step was taken from a state that nobody ever had")
        self.world.check(len(states) == 1, "the members of a group differ")

    def stepped(self, worker: SimWorker, state: SimState) -> None:
        """A worker has applied a step."""
        self.world.check(state.is_good, "a step was taken from a state that nobody ever had")
        order = worker.mailbox.order
        assert order is not None
        if self.world.divided:
            own = (order.rank, order.world_size)
            self.world.check(state.share == own, "a step was taken with the rows of another rank")
            wanted = rows_held(own, self.world.copies)
            sound = all(state.rows.get(row) == table_at(state.step)[row] for row in wanted)
            self.world.check(sound, "rows were trained that came from nobody who had them")
        self.taken.setdefault(state.step, set()).add((order.generation, order.addresses))

    def restored(self, worker: SimWorker, checkpoint: CheckpointFiles, state: SimState) -> None:
        """A worker has read a checkpoint and takes it for good."""
        if checkpoint.links:
            self.world.fired.add("resumed")
        self.world.check(state.is_good, "a checkpoint that is bad was trusted")
        data = {str(file.location.path) for file in checkpoint.files if ".data-" in file.name}
        damaged = self.world.truth.output.damaged.keys()
        self.world.check(not data & damaged, "a damaged checkpoint was trusted")
