"""Are the workers and places of a driver that died taken over one by one, on a real Ray with
made-up GPUs?
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.config_sections import WorkersConfig
from orchestrator.decide.machine import WorkerReport
from orchestrator.errors import LeaseLost
from orchestrator.workers.adopting import take_over
from orchestrator.workers.namespace import end_run, living_workers, namespace_of
from orchestrator.workers.placement import Placement, give_back, room, this_group
from orchestrator.workers.places import Lent
from orchestrator.workers.runtime import these_gpus, this_node

pytestmark = [pytest.mark.ray, pytest.mark.turns(6)]
OUTPUT = "memory://adopting"
NAMESPACE = namespace_of(OUTPUT)


class FakeWorker:
    """A worker without TensorFlow. What it does when it's asked is in its behaviour: ``lives``,
    ``dies``, ``dies later``, ``obeys``.
    """

    def __init__(self, ident: str, behaviour: str = "lives") -> None:
        self.ident, self.behaviour = ident, behaviour

    def is_up(self) -> bool:
        return True

    def adopt(self, attempt: int) -> dict[str, Any]:
        if self.behaviour == "dies":
            os._exit(1)
        if self.behaviour == "fails":
            raise RuntimeError("a bug")
        if self.behaviour == "obeys":
            raise LeaseLost("the worker obeys attempt 9")
        return {
            "worker": self.ident,
            "node": this_node(),
            "pid": os.getpid(),
            "address": "",
            "generation": 0,
            "rank": None,
            "world_size": 0,
            "step": None,
            "position": 0,
            "granted_end": 0,
            "held": False,
            "joined": False,
            "loaded": True,
            "group": this_group(),
            "devices": these_gpus(),
        }

    def setup(self, attempt: int) -> str:
        if self.behaviour == "dies later":
            os._exit(1)
        return f"what {self.ident} was made with"

    def give_place_back(self) -> None:
        give_back([this_group()])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 3,
            "num_gpus": 2,
            "include_dashboard": False,
            "dashboard_port": 0,
            "object_store_memory": 100 << 20,
        },
    )
    ray.init(address=made.address, log_to_driver=False, namespace="of-the-driver")
    yield ray
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def ray(cluster: Any) -> Iterator[Any]:
    yield cluster
    end_run(OUTPUT)
    wait_until(
        lambda: room(WorkersConfig(count=1, cpus=3, gpus=2)) == 1,
        "the run's room wasn't given back",
    )


def wait_until(holds: Callable[[], Any], otherwise: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def start(ray: Any, ident: str, behaviour: str = "lives", **options: Any) -> Any:
    options = {"num_cpus": 0.1, **options}
    return (
        ray.remote(FakeWorker)
        .options(name=ident, namespace=NAMESPACE, lifetime="detached", **options)
        .remote(ident, behaviour)
    )


def start_all(ray: Any, *behaviours: str) -> None:
    """Workers w0001 and on, all up."""
    actors = [
        start(ray, f"w{number:04d}", behaviour) for number, behaviour in enumerate(behaviours, 1)
    ]
    assert all(ray.get([actor.is_up.remote() for actor in actors], timeout=60))


def still_ours() -> None:
    """Nobody else holds the run."""


def reported(ray: Any, actor: Any) -> WorkerReport:
    return WorkerReport(**ray.get(actor.adopt.remote(2), timeout=60))


def test_takeover_leaves_out_whoever_dies_during_it_and_goes_on(ray: Any) -> None:
    """The first to die used to end the new driver, and its end killed the healthy ones."""
    start_all(ray, "dies", "fails", "dies later", "lives", "lives")
    living = take_over(NAMESPACE, 2, still_ours)
    assert [report.worker for report in living.reports] == ["w0004", "w0005"]
    assert sorted(living.actors) == ["w0004", "w0005"]
    assert living.setup == "what w0004 was made with"  # type: ignore[comparison-overlap]
    wait_until(
        lambda: living_workers(NAMESPACE) == ["w0004", "w0005"],
        "who wasn't taken over wasn't ended",
    )


def test_takeover_of_nobody_has_no_setup(ray: Any) -> None:
    start_all(ray, "dies later")
    living = take_over(NAMESPACE, 2, still_ours)
    assert (living.reports, living.setup, dict(living.actors)) == ((), None, {})


def test_takeover_ends_nobody_once_the_driver_has_been_followed(ray: Any) -> None:
    start_all(ray, "fails", "lives")

    def followed() -> None:
        raise LeaseLost("attempt 3 has taken this run over")

    with pytest.raises(LeaseLost, match="attempt 3"):
        take_over(NAMESPACE, 2, followed)
    assert living_workers(NAMESPACE) == ["w0001", "w0002"], "they're the other driver's"


def test_takeover_stops_at_a_worker_that_obeys_a_newer_driver(ray: Any) -> None:
    start_all(ray, "lives", "obeys")
    with pytest.raises(LeaseLost, match="attempt 9"):
        take_over(NAMESPACE, 2, still_ours)
    assert living_workers(NAMESPACE) == ["w0001", "w0002"], "they're the other driver's"


def test_places_taken_over_have_their_gpus_and_the_dead_ones_are_used_again(ray: Any) -> None:
    """A driver and its first worker are gone; the next driver has a survivor and a standby, and no
    other room in the cluster.
    """
    workers = WorkersConfig(count=2, standby=1, gpus=1)
    before = Placement(NAMESPACE, workers)
    actors = {
        ident: start(ray, ident, **before.options(ident, (), standby=ident == "w0003"))
        for ident in ("w0001", "w0002", "w0003")
    }
    first, second, third = (reported(ray, actor) for actor in actors.values())
    assert (len(first.devices), len(second.devices), third.devices) == (1, 1, ())
    assert first.devices != second.devices
    ray.kill(actors.pop("w0001"))
    wait_until(lambda: "w0001" not in living_workers(NAMESPACE), "w0001 lives")

    after = Placement(NAMESPACE, workers)
    after.adopt([second, third], {first.group: (first.node, first.devices)})
    assert after.lend("w0002") == Lent(second.devices)
    assert after.lend("w0003") == Lent(first.devices, first.group), (
        "the standby takes what the dead one had"
    )
    standby = start(ray, "w0004", **after.options("w0004", (), standby=True))
    assert reported(ray, standby).group == first.group, "it lies where nobody lies"

    ray.kill(actors.pop("w0003"))
    ray.kill(standby)
    after.free("w0003")
    after.free("w0004")
    fresh = reported(ray, start(ray, "w0005", **after.options("w0005", (), standby=False)))
    assert (fresh.group, fresh.devices) == (first.group, first.devices), "a place keeps its GPUs"


def test_places_of_another_size_that_nobody_has_are_removed(ray: Any) -> None:
    before = Placement(NAMESPACE, WorkersConfig(count=2, cpus=1.5))
    gone, left = (
        start(ray, ident, **before.options(ident, (), standby=False))
        for ident in ("w0001", "w0002")
    )
    report = reported(ray, left)
    reported(ray, gone)
    ray.kill(gone)
    after = Placement(NAMESPACE, WorkersConfig(count=2, cpus=1))
    after.adopt([report], {})
    reported(ray, start(ray, "w0003", **after.options("w0003", (), standby=False)))
    assert reported(ray, left).group == report.group, "the living one keeps its place"


def test_room_counts_what_a_dead_run_holds_for_that_run_alone(ray: Any) -> None:
    """Groups of workers that were killed stay; the same command used to be refused for want of
    room.
    """
    workers = WorkersConfig(count=2, cpus=1.5)
    placement = Placement(NAMESPACE, workers)
    actors = [
        start(ray, ident, **placement.options(ident, (), standby=False))
        for ident in ("w0001", "w0002")
    ]
    for actor in actors:
        reported(ray, actor)
        ray.kill(actor)
    wait_until(lambda: not living_workers(NAMESPACE), "they live")
    assert room(workers) == 0
    assert room(workers, namespace=NAMESPACE) == 2
    assert end_run(OUTPUT) == {"workers": 0, "placement_groups": 2}
    wait_until(lambda: room(workers) == 2, "the groups weren't removed")


def test_worker_that_gives_its_place_back_takes_no_room_along(ray: Any) -> None:
    """As an orphan does. If its driver lives after all, that one makes the next worker a place of
    its own.
    """
    workers = WorkersConfig(count=1, cpus=3)
    placement = Placement(NAMESPACE, workers)
    actor = start(ray, "w0001", **placement.options("w0001", (), standby=False))
    first = reported(ray, actor)
    assert room(workers) == 0
    actor.give_place_back.remote()
    wait_until(lambda: room(workers) == 1, "its place stays")
    wait_until(lambda: not living_workers(NAMESPACE), "it lives on")
    placement.free("w0001")
    assert (
        reported(ray, start(ray, "w0002", **placement.options("w0002", (), standby=False))).group
        != first.group
    )
