"""Does a standby take the GPUs of the rank that was lost, and only those of its own node?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import WorkersConfig
from orchestrator.workers.placement import Place, Placement, avoidable, demand_of


def placement(*places: Place, gpus: float = 1.0) -> Placement:
    made = Placement("run", WorkersConfig(count=2, standby=1, gpus=gpus))
    made._places.extend(places)
    return made


def place(gpus: float, worker: str | None, node: str, *devices: str) -> Place:
    group: Any = None
    return Place(f"p-{worker}", group, gpus, (), worker, node, devices)


def test_placement_standby_takes_the_free_gpus_of_its_node_and_leaves_its_own_place() -> None:
    lost, spare = place(1.0, "w1", "n1", "GPU-a"), place(0.0, "w3", "n1")
    made = placement(lost, place(1.0, "w2", "n1", "GPU-b"), spare)
    made.free("w1")
    assert made.devices_for("w3") == ("GPU-a",)
    assert (lost.worker, spare.worker) == ("w3", None)
    assert made.devices_for("w3") == ("GPU-a",), "asking again changes nothing"
    assert made.devices_for("w2") == ("GPU-b",)


def test_placement_standby_on_another_node_gets_none() -> None:
    made = placement(place(1.0, None, "n1", "GPU-a"), place(0.0, "w3", "n2"))
    assert made.devices_for("w3") is None


def test_placement_without_gpus_asks_for_none() -> None:
    assert placement(place(0.0, "w1", "n1"), gpus=0).devices_for("w1") == ()


def test_placement_remembers_what_a_worker_found() -> None:
    made = placement(place(1.0, "w1", ""))
    made.arrived("w1", "n1", ("GPU-a",))
    assert made.devices_for("w1") == ("GPU-a",)


@pytest.mark.parametrize(("standby", "gpus"), [(False, 0.5), (True, 0.0)])
def test_demand_of_a_standby_holds_no_gpu(standby: bool, gpus: float) -> None:
    assert demand_of(WorkersConfig(gpus=0.5, cpus=2, memory_bytes=7), standby=standby).gpus == gpus


def test_node_that_keeps_failing_is_avoided_only_where_there_is_another() -> None:
    assert avoidable(["10.0.0.1/aaaa"], ["aaaa1111", "bbbb2222"]) == ("10.0.0.1/aaaa",)
    assert avoidable(["10.0.0.1/aaaa"], ["aaaa1111"]) == ()
