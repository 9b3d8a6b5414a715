"""How do several workers share the batches of ``infer`` and ``evaluate``?

Rule: one Ray actor a worker, each of which asks a TensorFlow process beside it; an actor that is
lost is started again, elsewhere if need be, and does its share anew, since a rank's batches follow
from its rank. Whatever ends this process ends the actors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray

from orchestrator.config import RunConfig
from orchestrator.driver.ray_link import RayLink
from orchestrator.errors import OrchestratorError, PlacementError, WorkerLost
from orchestrator.store.objects.private import private_directory

if TYPE_CHECKING:
    from orchestrator.driver.inference import BatchValues, NodeWish

AGAIN = 3
"""Times that a lost actor is started again: a spot node may go at any time, and what has killed the
fourth kills the fifth.
"""
ROOM_S = 300.0
"""Longest wait for the cluster to have room for the first of them."""


class Fetcher:
    """An actor with a worker's resources."""

    def here(self) -> str:
        """Answers as soon as it runs."""
        return ray.util.get_node_ip_address()  # type: ignore[no-any-return]

    def fetch(
        self, task: Mapping[str, Any], files: Sequence[Any], path: list[str], here: str
    ) -> list[BatchValues] | OrchestratorError:
        """The outputs of one rank's batches, or why there are none.

        Args:
            path: where the driver finds modules.
            here: its directory, which files are named from; where a node has no such directory
                it's the job's own.
        """
        from orchestrator.driver.inference import asked_here

        if os.path.isdir(here):
            os.chdir(here)
        # The user's modules are where the driver finds them, which the actor's environment doesn't say
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*path, *filter(None, sys.path)]))
        try:
            return asked_here(task, files, private_directory("tfresume-cache"))
        except OrchestratorError as error:
            return error


def asked_of_ray(
    tasks: Sequence[Mapping[str, Any]], files: Sequence[Any], config: RunConfig, place: NodeWish
) -> list[list[BatchValues]]:
    """The answer to each task, from an actor of its own.

    Raises:
        OrchestratorError: what an actor told.
        PlacementError: the cluster can't be reached, or has no room.
        WorkerLost: an actor was lost too often.
    """
    with connected(config), _actors(len(tasks), config, place) as actors:
        path = [entry for entry in sys.path if entry]
        asked = [
            actor.fetch.remote(task, files, path, os.getcwd())
            for actor, task in zip(actors, tasks, strict=True)
        ]
        try:
            found = ray.get(asked)
        except ray.exceptions.RayError as error:
            raise WorkerLost.from_cause(
                f"a worker that fetched tensors was lost {AGAIN + 1} times",
                error,
                remedy="Look at its node's memory (`tfresume doctor`), or use more workers",
            ) from error
    given: list[list[BatchValues]] = []
    for answer in found:
        if isinstance(answer, OrchestratorError):
            raise answer
        given.append(answer)
    return given


@contextmanager
def connected(config: RunConfig) -> Iterator[None]:
    """Ray can be used; within another one its connection is. Raises PlacementError."""
    link = RayLink(config)
    try:
        link.wait()
        yield
    finally:
        link.close()


@contextmanager
def _actors(count: int, config: RunConfig, place: NodeWish) -> Iterator[list[Any]]:
    needs: dict[str, Any] = {
        "num_cpus": config.workers.cpus,
        "num_gpus": config.workers.gpus,
        "max_restarts": AGAIN,
        "max_task_retries": AGAIN,
    }
    if place.resources:
        needs["resources"] = dict(place.resources)
    if place.labels:
        needs["label_selector"] = dict(place.labels)
    actors = [ray.remote(**needs)(Fetcher).remote() for _ in range(count)]
    try:
        if not ray.wait([actor.here.remote() for actor in actors], timeout=ROOM_S)[0]:
            asked = ", ".join(
                [f"{config.workers.cpus:g} CPUs", f"{config.workers.gpus:g} GPUs"]
                + [f"{amount:g} {name}" for name, amount in place.resources.items()]
                + [f"label {name}={value}" for name, value in place.labels.items()]
            )
            raise PlacementError(
                f"no node had room within {ROOM_S:.0f} s for a worker with {asked}",
                remedy="Compare it with `ray status`, and ask for less",
            )
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor, no_restart=True)
