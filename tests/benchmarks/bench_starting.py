"""How long does a driver take to have a thousand workers started, against Ray asked for the same?

The real fleet, starter and placement, and workers for which there's no room: Ray takes every order for
a place and an actor, and starts none. So the figure is what telling takes, and not what a machine
takes to start a thousand processes.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.config_sections import WorkersConfig
from orchestrator.decide import actions as act
from orchestrator.workers.fleet import Fleet, actor_class
from orchestrator.workers.placement import Placement
from orchestrator.workers.starting import SIDE_BY_SIDE
from tests.benchmarks.crowd_on_ray import SETUP
from tests.benchmarks.figures import Figure, spread

WORKERS, TURNS = 1000, 3
CPUS = 1000.0
"""Of a worker: more than any node has."""
WITHIN_S = 300.0


def figures(_: Path) -> Iterator[Figure]:
    """Turn about, so that neither always finds Ray busy with the other's end."""
    numbers = itertools.count()
    ray.init(
        "local",
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
    )
    try:
        ours, bare = [], []
        for _turn in range(TURNS):
            bare.append(_bare(f"bare-{next(numbers)}"))
            ours.append(_told(f"told-{next(numbers)}"))
    finally:
        ray.shutdown()
    behind = f"told {spread(ours, 's')}, Ray alone {spread(bare, 's')}"
    told_s = statistics.median(ours)
    yield Figure(f"{WORKERS} workers told to start, s", told_s, 5.0, True, behind)
    ratio = told_s / statistics.median(bare)
    yield Figure(f"telling {WORKERS} to start over Ray alone", ratio, 2.0, True, behind)


def _told(namespace: str) -> float:
    """Seconds from the first order until Ray has taken the last."""
    placement = Placement(namespace, WorkersConfig(cpus=CPUS))
    fleet = Fleet(namespace, 1, placement, lambda _event: None, lambda: SETUP)
    began_s = time.monotonic()
    for number in range(WORKERS):
        fleet.start(act.StartWorker(f"w{number:04}"))
    _until(lambda: len(fleet._calls.actors) == WORKERS)
    told_s = time.monotonic() - began_s
    fleet.close(kill=True)
    return told_s


def _bare(namespace: str) -> float:
    """The same of Ray itself, by as many threads."""
    made, lock = [], threading.Lock()
    kind, setup = actor_class(), ray.put(SETUP)

    def start(number: int) -> None:
        group = placement_group([{"CPU": CPUS}], name=f"{namespace}/{number}", lifetime="detached")
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
        actor = kind.options(
            name=f"w{number:04}",
            namespace=namespace,
            lifetime="detached",
            num_cpus=CPUS,
            scheduling_strategy=strategy,
        ).remote(f"w{number:04}", 1, setup)
        with lock:
            made.append((actor, group))

    began_s = time.monotonic()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        list(threads.map(start, range(WORKERS)))
    told_s = time.monotonic() - began_s
    for actor, group in made:
        ray.kill(actor, no_restart=True)
        remove_placement_group(group)
    return told_s


def _until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline_s, "it takes too long"
        time.sleep(0.01)
