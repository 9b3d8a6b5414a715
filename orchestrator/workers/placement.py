"""Where do workers run, and is there room for them?

Rule: one detached placement group per place, named after the namespace, so that any later driver
can find and remove it. The books say who lies where (``places``); a driver that takes living
workers over rebuilds them. A group that nobody has is removed by whoever holds the run, and a
worker that ends as an orphan takes its own along.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.config_sections import WorkersConfig
from orchestrator.decide.machine import WorkerReport
from orchestrator.decide.room import Demand, fitting
from orchestrator.workers.places import Lent, Place, Places, rebuilt


def demand_of(workers: WorkersConfig, *, standby: bool = False) -> Demand:
    """What one worker asks Ray for."""
    return Demand(workers.cpus, 0.0 if standby else workers.gpus, workers.memory_bytes or 0)


class Placement:
    """The places of one run."""

    def __init__(self, namespace: str, workers: WorkersConfig) -> None:
        self._namespace, self._workers = namespace, workers
        self._books = Places()
        self._count = 0
        self._lock = threading.RLock()

    def options(self, worker: str, avoid: Sequence[str], *, standby: bool) -> dict[str, Any]:
        """Ray's options for ``worker``'s actor. Doesn't wait for room: the actor is created when
        there is some. May be called from several threads at once.
        """
        demand = demand_of(self._workers, standby=standby)
        avoid = (
            avoidable(avoid, [node["NodeID"] for node in ray.nodes() if node["Alive"]])
            if avoid
            else ()
        )
        while (place := self._taken(worker, demand, avoid)) is not None and not _exists(
            place.group
        ):
            # its worker took this driver for dead, and the place along
            with self._lock:
                self._books.remove(place)
        place = place or self._new_place(worker, demand, tuple(avoid))
        strategy = PlacementGroupSchedulingStrategy(place.group, placement_group_bundle_index=0)
        resources = {"num_cpus": demand.cpus, "num_gpus": demand.gpus} | (
            {"memory": demand.memory_bytes} if demand.memory_bytes else {}
        )
        return {**resources, "scheduling_strategy": strategy}

    def _taken(self, worker: str, demand: Demand, avoid: Sequence[str]) -> Place | None:
        """A free place, which is the worker's from now on."""
        with self._lock:
            place = self._books.free_for(demand, avoid)
            if place is not None:
                self._books.put(place, worker, demand)
            return place

    def _new_place(self, worker: str, demand: Demand, avoid: tuple[str, ...]) -> Place:
        with self._lock:
            self._count += 1
            count = self._count
        bundle = {"CPU": demand.cpus} | ({"GPU": demand.gpus} if demand.gpus else {})
        bundle |= {"memory": float(demand.memory_bytes)} if demand.memory_bytes else {}
        shunned = [
            node["NodeID"]
            for node in ray.nodes()
            if any(node["NodeID"].startswith(name.rpartition("/")[2]) for name in avoid)
        ]
        labels = [{"ray.io/node-id": f"!in({','.join(shunned)})"}] if shunned else None
        name = f"{self._namespace}/{count}-{id(self):x}"
        group = placement_group(
            [bundle], strategy="PACK", name=name, lifetime="detached", bundle_label_selector=labels
        )
        place = Place(group.id.hex(), group, demand, avoid)
        with self._lock:
            self._books.add(place)
            self._books.put(place, worker, demand)
        return place

    def adopt(
        self, reports: Sequence[WorkerReport], known: Mapping[str, tuple[str, tuple[str, ...]]]
    ) -> None:
        """Places of an earlier driver: who reports from there keeps them, those of the dead are
        used again.

        Args:
            known: place to node and GPUs, as the journal tells (``places.rebuilt``).
        """
        books = rebuilt(_places_of(self._namespace), reports, known)
        usable = (demand_of(self._workers), demand_of(self._workers, standby=True))
        for place in [
            place for place in books.all if place.is_empty and place.demand not in usable
        ]:
            remove_placement_group(place.group)
            books.remove(place)
        self._books = books

    def free(self, worker: str) -> None:
        """The worker is gone; its place may be used again."""
        with self._lock:
            self._books.leave(worker)

    def arrived(self, worker: str, node: str, devices: tuple[str, ...]) -> None:
        """A worker says where it is and which GPUs it was given."""
        with self._lock:
            self._books.arrived(worker, node, devices)

    def lend(self, worker: str) -> Lent | None:
        """The GPUs with which ``worker`` takes a rank: its own, or for a standby those of a lost
        worker on its node.

        Returns:
            Identifiers as Ray gives them, none where workers have no GPUs; None where a standby's
            node has none free.
        """
        if not self._workers.gpus:
            return Lent()
        with self._lock:
            return self._books.lend(worker)

    def remove(self) -> None:
        """Give all places of the run back, whoever made them."""
        self._books = Places()
        self.remove_all(self._namespace)

    @staticmethod
    def remove_all(namespace: str) -> int:
        """Remove the places of the run with this namespace, whoever made them; how many there were."""
        found = _places_of(namespace)
        for place in found:
            remove_placement_group(place.group)
        return len(found)


def reserved(namespace: str) -> int:
    """How many places the run with this namespace has, whoever made them."""
    return len(_entries_of(namespace))


def this_group() -> str:
    """The placement group that this worker's process lies in; empty where there's none."""
    group = get_current_placement_group()
    return "" if group is None else str(group.id.hex())


def give_back(groups: Sequence[str]) -> None:
    """Remove these placement groups, and with them whoever lies there, this process included."""
    for ident in groups:
        remove_placement_group(_handle(ident))


def _handle(ident: str) -> PlacementGroup:
    """By identity, since Ray looks names up in the caller's own namespace only."""
    return PlacementGroup(ray.PlacementGroupID(bytes.fromhex(ident)))


def _exists(group: PlacementGroup) -> bool:
    return bool(placement_group_table(group).get("state", "REMOVED") != "REMOVED")


def _places_of(namespace: str) -> list[Place]:
    """The run's places as Ray shows them, with their node, and nobody in them."""
    nodes = {
        str(node["NodeID"]): f"{node['NodeManagerAddress']}/{node['NodeID'][:8]}"
        for node in ray.nodes()
    }
    found = []
    for entry in _entries_of(namespace):
        ident, bundle = str(entry["placement_group_id"]), entry["bundles"][0]
        demand = Demand(
            float(bundle.get("CPU", 0.0)),
            float(bundle.get("GPU", 0.0)),
            int(bundle.get("memory", 0)),
        )
        found.append(
            Place(
                ident,
                _handle(ident),
                demand,
                node=nodes.get(str(entry["bundles_to_node_id"].get(0)), ""),
            )
        )
    return found


def _entries_of(namespace: str) -> list[Mapping[str, Any]]:
    table: Mapping[str, Mapping[str, Any]] = placement_group_table()
    return [
        entry
        for entry in table.values()
        if str(entry["name"]).startswith(f"{namespace}/") and entry["state"] != "REMOVED"
    ]


def avoidable(avoid: Sequence[str], alive: Sequence[str]) -> tuple[str, ...]:
    """The nodes to keep away from; none where there is no other node to go to.

    Args:
        avoid: as ``Warm.node`` names them: address and the beginning of the identity.
        alive: identities of the living nodes.
    """
    beginnings = tuple(name.rpartition("/")[2] for name in avoid)
    return tuple(avoid) if any(not identity.startswith(beginnings) for identity in alive) else ()


def room(workers: WorkersConfig, *, standby: bool = False, namespace: str = "") -> int:
    """How many more workers the cluster could place now; ``namespace`` as ``free_resources`` has
    it.
    """
    return fitting(free_resources(namespace), demand_of(workers, standby=standby))


def free_resources(namespace: str = "") -> list[dict[str, float]]:
    """What is free on each living node: CPU, GPU, memory.

    Args:
        namespace: of a run none of whose workers lives: what its groups still hold counts as free,
            since its next driver removes them.
    """
    available: Mapping[str, Mapping[str, float]] = ray._private.state.available_resources_per_node()
    free = {
        node: {key: float(resources.get(key, 0.0)) for key in ("CPU", "GPU", "memory")}
        for node, resources in available.items()
    }
    for entry in _entries_of(namespace) if namespace else ():
        for index, bundle in entry["bundles"].items():
            held_by = free.get(str(entry["bundles_to_node_id"].get(index)))
            if held_by is not None and entry["state"] == "CREATED":
                held_by.update({key: held_by[key] + float(bundle.get(key, 0.0)) for key in held_by})
    return list(free.values())
