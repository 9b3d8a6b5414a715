"""Where do workers run, and is there room for them?

Rule: one detached placement group per place, named after the namespace, so that any later driver can find and remove it. The place of a
dead worker is used again; a standby's holds no GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.config import WorkersConfig
from orchestrator.decide.room import Demand, fitting


@dataclass
class Place:
    """One placement group of one bundle; ``worker`` is who has it, ``node`` and ``devices`` what its first worker found there."""

    name: str
    group: PlacementGroup
    gpus: float
    avoid: tuple[str, ...]
    worker: str | None
    node: str = ""
    devices: tuple[str, ...] = ()


def demand_of(workers: WorkersConfig, *, standby: bool = False) -> Demand:
    """What one worker asks Ray for."""
    return Demand(workers.cpus, 0.0 if standby else workers.gpus, workers.memory_bytes or 0)


class Placement:
    """The places of one run."""

    def __init__(self, namespace: str, workers: WorkersConfig) -> None:
        self._namespace, self._workers = namespace, workers
        self._places: list[Place] = []
        self._count = 0

    def options(self, worker: str, avoid: Sequence[str], *, standby: bool) -> dict[str, Any]:
        """Ray's options for ``worker``'s actor. Doesn't wait: the actor is created when there is room."""
        demand = demand_of(self._workers, standby=standby)
        avoid = avoidable(avoid, [node["NodeID"] for node in ray.nodes() if node["Alive"]]) if avoid else ()
        place = next(
            (item for item in self._places if item.worker is None and item.gpus == demand.gpus and set(avoid) <= set(item.avoid)),
            None,
        )
        if place is None:
            place = self._new_place(demand, tuple(avoid))
        place.worker = worker
        strategy = PlacementGroupSchedulingStrategy(place.group, placement_group_bundle_index=0)
        resources = {"num_cpus": demand.cpus, "num_gpus": demand.gpus} | (
            {"memory": demand.memory_bytes} if demand.memory_bytes else {}
        )
        return {**resources, "scheduling_strategy": strategy}

    def _new_place(self, demand: Demand, avoid: tuple[str, ...]) -> Place:
        self._count += 1
        bundle = {"CPU": demand.cpus} | ({"GPU": demand.gpus} if demand.gpus else {})
        bundle |= {"memory": float(demand.memory_bytes)} if demand.memory_bytes else {}
        shunned = [
            node["NodeID"] for node in ray.nodes() if any(node["NodeID"].startswith(name.rpartition("/")[2]) for name in avoid)
        ]
        labels = [{"ray.io/node-id": f"!in({','.join(shunned)})"}] if shunned else None
        name = f"{self._namespace}/{self._count}-{id(self):x}"
        group = placement_group([bundle], strategy="PACK", name=name, lifetime="detached", bundle_label_selector=labels)
        place = Place(name, group, demand.gpus, avoid, None)
        self._places.append(place)
        return place

    def adopt(self, workers: Sequence[str]) -> None:
        """Places of an earlier driver: kept for as long as the run lives, and removed with it."""
        for name, group in _groups_of(self._namespace):
            self._places.append(Place(name, group, -1.0, (), "an earlier driver's"))

    def free(self, worker: str) -> None:
        """The worker is gone; its place may be used again."""
        for place in self._places:
            if place.worker == worker:
                place.worker = None

    def arrived(self, worker: str, node: str, devices: tuple[str, ...]) -> None:
        """A worker says where it is and which GPUs it was given."""
        for place in self._places:
            if place.worker == worker:
                place.node, place.devices = node, devices or place.devices

    def devices_for(self, worker: str) -> tuple[str, ...] | None:
        """The GPUs with which ``worker`` takes a rank: its own, or for a standby those of a free place on its node, which it takes over.

        Returns:
            Identifiers as Ray gives them, empty where workers have no GPUs; None where a standby's node has none free.
        """
        if not self._workers.gpus:
            return ()
        own = next((place for place in self._places if place.worker == worker), None)
        if own is None or own.gpus:
            return own.devices if own else None
        free = next((place for place in self._places if place.worker is None and place.gpus and place.node == own.node), None)
        if free is None:
            return None
        free.worker, own.worker = worker, None
        return free.devices

    def remove(self) -> None:
        """Give all places back."""
        for place in self._places:
            remove_placement_group(place.group)
        self._places.clear()

    @staticmethod
    def remove_all(namespace: str) -> int:
        """Remove the places of the run with this namespace, whoever made them; how many there were."""
        groups = _groups_of(namespace)
        for _, group in groups:
            remove_placement_group(group)
        return len(groups)


def _groups_of(namespace: str) -> list[tuple[str, PlacementGroup]]:
    """Names and handles of the run's places. By identity, since Ray looks names up in the caller's own namespace only."""
    table: Mapping[str, Mapping[str, Any]] = placement_group_table()
    return [
        (str(entry["name"]), PlacementGroup(ray.PlacementGroupID(bytes.fromhex(str(entry["placement_group_id"])))))
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


def room(workers: WorkersConfig, *, standby: bool = False) -> int:
    """How many more workers the cluster could place now."""
    return fitting(free_resources(), demand_of(workers, standby=standby))


def free_resources() -> list[dict[str, float]]:
    """What is free on each living node: CPU, GPU, memory."""
    available: Mapping[str, Mapping[str, float]] = ray._private.state.available_resources_per_node()
    return [{key: float(resources.get(key, 0.0)) for key in ("CPU", "GPU", "memory")} for node, resources in available.items()]
