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
from orchestrator.errors import FatalError, OrchestratorError, PlacementError, WorkerLost
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
        """The node that it runs on, in Ray's identity."""
        return str(ray.get_runtime_context().get_node_id())

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
    """The answers to the tasks as they come, each from an actor of its own.

    Raises:
        OrchestratorError: what an actor told; FatalError where it told nothing of ours.
        PlacementError: the cluster can't be reached, or has no room.
        WorkerLost: an actor was lost too often.
    """
    with connected(config), actors(len(tasks), config, place) as started:
        path = [entry for entry in sys.path if entry]
        asked = {
            actor.fetch.remote(task, files, path, os.getcwd()): actor
            for actor, task in zip(started, tasks, strict=True)
        }
        return [_answer(ref, actor) for ref, actor in _as_they_come(asked)]


def _as_they_come(asked: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Each answer with its actor, when it's there."""
    waiting = dict(asked)
    while waiting:
        (ref,), _ = ray.wait(list(waiting))
        yield ref, waiting.pop(ref)


def _answer(ref: Any, actor: Any) -> list[BatchValues]:
    """What an actor gave. It ends then: another one may wait for its room."""
    try:
        found: list[BatchValues] | OrchestratorError = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        # It lives, and what it raised would come again: it's none of ours and no loss
        raise FatalError.from_cause(
            "a worker that fetched tensors failed",
            error.cause,
            remedy="Look at its node with `tfresume doctor`: what runs there has to be what runs here",
        ) from error
    except ray.exceptions.RayError as error:
        raise WorkerLost.from_cause(
            f"a worker that fetched tensors was lost {AGAIN + 1} times",
            error,
            remedy="Look at its node's memory (`tfresume doctor`), or use more workers",
        ) from error
    ray.kill(actor, no_restart=True)
    if isinstance(found, OrchestratorError):
        raise found
    return found


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
def actors(count: int, config: RunConfig, place: NodeWish) -> Iterator[list[Any]]:
    """So many actors, of which at least one runs. Raises PlacementError."""
    needs = needs_of(config, place)
    started = [ray.remote(**needs)(Fetcher).remote() for _ in range(count)]
    try:
        if not ray.wait([actor.here.remote() for actor in started], timeout=ROOM_S)[0]:
            asked = ", ".join(
                [f"{config.workers.cpus:g} CPUs", f"{config.workers.gpus:g} GPUs"]
                + [f"{amount:g} {name}" for name, amount in place.resources.items()]
                + [f"label {name}={value}" for name, value in place.labels.items()]
            )
            raise PlacementError(
                f"no node had room within {ROOM_S:.0f} s for a worker with {asked}",
                remedy="Compare it with `ray status`, and ask for less",
            )
        yield started
    finally:
        for actor in started:
            ray.kill(actor, no_restart=True)


def needs_of(config: RunConfig, place: NodeWish) -> dict[str, Any]:
    """What each actor asks of Ray: a worker's resources, and a node that fits ``place``."""
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
    return needs
