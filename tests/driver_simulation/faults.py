"""What goes wrong in a simulated world, how often, and how does it come about?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.decide import events as ev
from orchestrator.store.run.run_record import request_stop
from tests.driver_simulation.actors import CallFaults
from tests.driver_simulation.store import StoreFaults

if TYPE_CHECKING:
    from tests.driver_simulation.worker import SimWorker
    from tests.driver_simulation.world import World

LEASE_S, ORPHAN_S = 6.0, 20.0
ASK_AGAIN_S = 60.0
"""After which a run that goes on is asked once more to stop."""
FEWEST_NODES, MOST_NODES = 2, 5
DRAINED_S = 15.0
"""From a node's announcement to its end, and to another's coming, about."""


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
        drain_s: a node is announced to go, goes, and another comes.
        room_s: the cluster gets a node, or loses one without a word.
        slots: how many places a node has; 0 for any number.
        part_refused: how often a rank can't write its part of a save.
        data_ends_at, input_raises_at: the first batch that the input lacks, and the one at which it
            raises; 0 for none.
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
    drain_s: float = 0.0
    room_s: float = 0.0
    slots: int = 0
    part_refused: float = 0.0
    data_ends_at: int = 0
    input_raises_at: int = 0
    until_s: float = 60.0

    @property
    def leaves_workers_alone(self) -> bool:
        """Whether each worker that lives goes on, and all that it says is heard."""
        return not (self.hangs_s or self.pauses_s) and self.calls == CallFaults()


class Mishaps:
    """Has what ``Faults`` names happen to one world."""

    def __init__(self, world: World) -> None:
        self._world, self._faults, self._random = world, world.faults, world.random

    def plan(self) -> None:
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
            "drain_s": self._drain,
            "room_s": self._resize,
        }
        for name, fault in kinds.items():
            mean_s = getattr(self._faults, name)
            if mean_s:
                self._soon(name, mean_s, fault)
        if self._faults.room_s:
            self._world.schedule.at(self._faults.until_s, self._grow_again)
        if self._faults.stop_at_s:
            self._world.schedule.at(self._faults.stop_at_s, self._ask_to_stop)

    def _grow_again(self) -> None:
        """Else a run that hasn't begun may wait for its first group for ever."""
        while len(self._world.cluster.usable()) < MOST_NODES:
            self._world.cluster.add_node()

    def _soon(self, name: str, mean_s: float, fault: Callable[[], bool]) -> None:
        def happen() -> None:
            if (
                self._world.schedule.now_s < self._faults.until_s
                and not self._world.drivers.results
            ):
                if fault():
                    self._world.fired.add(name)
                self._soon(name, mean_s, fault)

        self._world.schedule.at(self._random.expovariate(1 / mean_s), happen)

    def _victim(self) -> SimWorker | None:
        living = [worker for worker in self._world.processes() if not worker.stopped]
        return self._random.choice(living) if living else None

    def _kill(self) -> bool:
        victim = self._victim()
        if victim is not None:
            self._world.ray.die(victim.actor)
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
            self._world.schedule.at(8.0, lambda: self._world.ray.die(victim.actor))
        return victim is not None

    def _lose_node(self) -> bool:
        lost = self._world.ray.lose_node(self._random.choice(self._world.cluster.usable()))
        self._world.cluster.add_node()
        return lost

    def _drain(self) -> bool:
        """Where there are two others: the last ones aren't taken away."""
        cluster = self._world.cluster
        usable = cluster.usable()
        if len(usable) < FEWEST_NODES + 1:
            return False
        node = self._random.choice(usable)
        node.draining = True

        def again() -> None:
            cluster.add_node()

        def go() -> None:
            if node.alive:
                self._world.ray.lose_node(node)
            self._world.schedule.at(DRAINED_S * self._random.random(), again)

        self._world.schedule.at(DRAINED_S * (0.2 + self._random.random()), go)
        return True

    def _resize(self) -> bool:
        cluster = self._world.cluster
        usable = cluster.usable()
        grows = self._random.random() < 0.5
        if grows and len(usable) < MOST_NODES:
            cluster.add_node()
            self._world.fired.add("grows")
        elif len(usable) > FEWEST_NODES:
            self._world.ray.lose_node(self._random.choice(usable))
            self._world.fired.add("shrinks")
        return True

    def _driver_dies(self) -> bool:
        living = self._world.drivers.living()
        if living:
            self._world.drivers.kill(self._random.choice(living))
        return bool(living)

    def _driver_pauses(self) -> bool:
        living = self._world.drivers.living()
        if living:
            length_s = 3 * LEASE_S * self._random.random()
            self._random.choice(living).paused_until_s = self._world.schedule.now_s + length_s
        return bool(living)

    def _rival(self) -> bool:
        if len(self._world.drivers.living()) < 3:
            self._world.drivers.start()
        return True

    def _outage(self) -> bool:
        self._world.bucket.down_until_s = (
            self._world.schedule.now_s + 3 * LEASE_S * self._random.random()
        )
        return True

    def _damage(self) -> bool:
        names = [
            name
            for name in self._world.bucket.objects
            if name.startswith(f"{self._world.path}/a") and ".data-" in name
            if self._world.bucket.objects[name][0]  # a rank of which no row has changed has none
        ]
        if names:
            name = self._random.choice(sorted(names))
            data = bytearray(self._world.bucket.objects[name][0])
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
            self._world.bucket.objects[name] = (bytes(data), self._world.bucket.objects[name][1])
            self._world.truth.output.damaged[name] = self._world.schedule.now_s
        return bool(names)

    def _ask_to_stop(self) -> None:
        self._world.fired.add("stop_at_s")
        request_stop(self._world.output, asked_by="the world")
        # A driver that is killed when it has followed the request is started again by its supervisor
        self._world.schedule.at(
            ASK_AGAIN_S, lambda: None if self._world.drivers.results else self._ask_to_stop()
        )
