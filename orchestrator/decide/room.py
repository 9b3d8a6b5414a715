"""How many workers fit onto what is free?

Rule: a worker lies on one node as a whole. First fit is exact here, since all workers ask for the
same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MANY = 100_000
"""What 'any number' is called where a worker asks for nothing."""


@dataclass(frozen=True)
class Demand:
    """What one worker asks for."""

    cpus: float
    gpus: float = 0.0
    memory_bytes: int = 0


def fitting(nodes: Sequence[Mapping[str, float]], demand: Demand) -> int:
    """How many workers fit onto the nodes' free ``CPU``, ``GPU`` and ``memory`` (bytes)."""
    return sum(_on_node(node, demand) for node in nodes)


def _on_node(node: Mapping[str, float], demand: Demand) -> int:
    asked = {"CPU": demand.cpus, "GPU": demand.gpus, "memory": float(demand.memory_bytes)}
    counts = [
        int((node.get(key, 0.0) + 1e-9) / amount) for key, amount in asked.items() if amount > 0
    ]
    return min(counts, default=MANY)


def describe(nodes: Sequence[Mapping[str, float]]) -> str:
    """What is free, for people: one phrase per node."""
    if not nodes:
        return "no node is alive"
    return "; ".join(
        f"node {number}: {node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs"
        for number, node in enumerate(nodes, 1)
    )


def cpus_of_local_ray(workers: int, cpus_each: float, machine_cpus: int) -> int:
    """How many CPUs a Ray of this run's own counts with: enough for the workers that were asked
    for, whatever the machine has.
    """
    return max(machine_cpus, math.ceil(workers * cpus_each))


OVERBOOKED = 4
"""A machine's CPUs are shared by so many workers at most: further ones only slow all of them down.
"""


def crowded(workers: int, cpus_each: float, machine_cpus: int) -> bool:
    """Whether one machine is asked for more than anybody can mean; two CPUs are counted at least,
    for trying things out.
    """
    return workers * cpus_each > OVERBOOKED * max(2, machine_cpus)
