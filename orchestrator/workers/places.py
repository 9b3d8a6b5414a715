"""Which worker is in which place, and which one trains on the place's GPUs?

Rule: a place is one bundle. Whoever lies in it has its CPUs; its GPUs belong to that worker, or are
lent to a standby of the same node that took the rank of one that was lost. What is free is found by
looking at both, so that nobody is put where somebody still is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.decide.machine import WorkerReport
from orchestrator.decide.room import Demand
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.worker_events import WorkerWarm


@dataclass
class Place:
    """One placement group of one bundle.

    Attributes:
        ident: the group's identity, as hexadecimal text; ``group`` is Ray's handle of it.
        demand: what its bundle has.
        avoid: nodes that it was made to keep away from.
        worker: who lies in it, ``user`` who trains on its GPUs; None where nobody does.
        node, devices: what its first worker found there.
    """

    ident: str
    group: Any
    demand: Demand
    avoid: tuple[str, ...] = ()
    worker: str | None = None
    user: str | None = None
    node: str = ""
    devices: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nobody lies in it and nobody trains on its GPUs."""
        return self.worker is None and self.user is None

    def takes(self, demand: Demand, avoid: Sequence[str]) -> bool:
        """Whether a worker that asks for ``demand`` may be put here now.

        One without GPUs may lie where the GPUs are lent: the CPUs there are nobody's.
        """
        if self.worker is not None or (
            self.node in avoid if self.node else not set(avoid) <= set(self.avoid)
        ):
            return False
        if self.demand == demand:
            return self.user is None
        alike = (self.demand.cpus, self.demand.memory_bytes) == (demand.cpus, demand.memory_bytes)
        return alike and not demand.gpus and self.user is not None


@dataclass(frozen=True)
class Lent:
    """The GPUs with which a worker takes a rank; ``place`` is whose they are, empty where they're
    its own or it has none.
    """

    devices: tuple[str, ...] = ()
    place: str = ""


class Places:
    """The books of one run's places.

    Args:
        places: those there are, with those who are in them.
    """

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._places: dict[str, Place] = {}
        self._of: dict[str, Place] = {}
        self._used_by: dict[str, Place] = {}
        self._vacant: dict[str, Place] = {}
        for place in places:
            self.add(place)

    @property
    def all(self) -> list[Place]:
        """Every place."""
        return list(self._places.values())

    def add(self, place: Place) -> None:
        """There is one more."""
        self._places[place.ident] = place
        if place.worker is None:
            self._vacant[place.ident] = place
        else:
            self._of[place.worker] = place
        if place.user is not None:
            self._used_by[place.user] = place

    def remove(self, place: Place) -> None:
        """It's there no longer."""
        if place.worker is not None:
            self._of.pop(place.worker, None)
        if place.user is not None:
            self._used_by.pop(place.user, None)
        self._vacant.pop(place.ident, None)
        self._places.pop(place.ident, None)

    def free_for(self, demand: Demand, avoid: Sequence[str]) -> Place | None:
        """A place that takes such a worker, one that is made for it rather than one whose GPUs are
        lent.
        """
        fitting = [place for place in self._vacant.values() if place.takes(demand, avoid)]
        return min(fitting, key=lambda place: place.demand != demand, default=None)

    def put(self, place: Place, worker: str, demand: Demand) -> None:
        """``worker`` lies there from now on, and trains on its GPUs if it asked for any."""
        place.worker = worker
        self._of[worker] = place
        self._vacant.pop(place.ident, None)
        if demand.gpus:
            self._use(place, worker)

    def _use(self, place: Place, worker: str) -> None:
        place.user = worker
        self._used_by[worker] = place

    def leave(self, worker: str) -> None:
        """The worker is gone."""
        if (place := self._of.pop(worker, None)) is not None:
            place.worker = None
            self._vacant[place.ident] = place
        if (place := self._used_by.pop(worker, None)) is not None:
            place.user = None

    def arrived(self, worker: str, node: str, devices: tuple[str, ...]) -> None:
        """A worker says where it is and which GPUs Ray gave it."""
        place = self._of.get(worker)
        if place is None:
            return
        if place.node != node:
            # Ray has moved the place; what was known of the other node's GPUs counts no longer
            place.devices = ()
        place.node, place.devices = node, devices or place.devices

    def lend(self, worker: str) -> Lent | None:
        """The GPUs with which ``worker`` takes a rank: those it has, else free ones of its node.
        None where there are none.
        """
        own, used = self._of.get(worker), self._used_by.get(worker)
        if used is None and own is not None:
            free = [
                place
                for place in self._places.values()
                if place.demand.gpus
                and place.user is None
                and place.devices
                and place.node == own.node
                and place.worker in (None, worker)
            ]
            used = min(free, key=lambda place: place is not own, default=None)
        if used is None:
            return None
        self._use(used, worker)
        return Lent(used.devices, "" if used is own else used.ident)


def rebuilt(
    found: Iterable[Place],
    reports: Sequence[WorkerReport],
    known: Mapping[str, tuple[str, tuple[str, ...]]],
) -> Places:
    """The books of a driver that died, from what there is and what living workers say.

    Args:
        found: the run's places as Ray shows them, with their node.
        known: place to node and GPUs, as the journal tells; counts for places whose worker is gone,
            on the node where it was.
    """
    lying = {report.group: report for report in reports if report.group}
    lent = {report.lent_group: report for report in reports if report.lent_group}
    places = list(found)
    for place in places:
        resident, user = lying.get(place.ident), lent.get(place.ident)
        node, devices = known.get(place.ident, ("", ()))
        if node and node == place.node:
            place.devices = devices
        if resident is not None:
            place.worker, place.node = resident.worker, resident.node
            if resident.devices and not resident.lent_group:
                place.user, place.devices = resident.worker, resident.devices
        if user is not None:
            place.user, place.node, place.devices = user.worker, user.node, user.devices
    return Places(places)


def known_places(events: Iterable[JournalEvent]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Place to node and GPUs, as the workers said that were the first to lie there."""
    return {
        event.place: (event.node, event.devices)
        for event in events
        if isinstance(event, WorkerWarm) and event.place
    }
