"""How does one call continue a run from its checkpoint to its last step?

Rule: look, plan, place, hold the lease, look again, and let the loop work; the errors of the first
three end with nothing started and nothing written. What follows the lease stands in ``taking_up``.
``resume`` is what the command calls and what a program may call::

    from orchestrator import resume
    from orchestrator.config import parse_config

    result = resume(parse_config({"source": "gs://b/model.ckpt-500", "output": "gs://b/more",
    "until_step": 1000, "workers": 2}))
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from orchestrator.config import RunConfig
from orchestrator.decide.room import describe
from orchestrator.driver.beginning import Ready, prepared
from orchestrator.driver.callbacks.loading import callbacks_of
from orchestrator.driver.claim import Claim
from orchestrator.driver.inbox import Inbox
from orchestrator.driver.metrics import RayMetrics
from orchestrator.driver.notifier import notifier_of
from orchestrator.driver.observer import Observer, Observers
from orchestrator.driver.proof import Proof
from orchestrator.driver.proving import proving
from orchestrator.driver.ray_link import RayLink
from orchestrator.driver.refusals import check_crowd, check_input
from orchestrator.driver.result import RunResult, ended_before_it_began
from orchestrator.driver.signals import Door, signals_to
from orchestrator.driver.startup import StartPoint
from orchestrator.driver.taking_up import begin, tidy
from orchestrator.driver.tensorboard_events import EventWriter
from orchestrator.errors import ConfigError, PlacementError
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.run_record import read_run_record
from orchestrator.workers.namespace import living_workers, namespace_of
from orchestrator.workers.placement import free_resources, room

log = logging.getLogger("tfresume")


def resume(
    config: RunConfig,
    *,
    observer: Observer | Sequence[Observer] | None = None,
    link: RayLink | None = None,
) -> RunResult:
    """Continue the training that ``config.source`` holds, into ``config.output``.

    Blocks until the run ends. In the main thread it takes over SIGTERM and SIGINT for that time. If
    Ray is connected already it's used, else ``config.address``, else a local Ray is started and
    stopped again. ``link`` is a connection that is being made already; it's closed at the end.

    Raises:
        ConfigError: and its subclasses, before anything was started or written.
        Preempted, KeyboardInterrupt: by SIGTERM or Ctrl-C before anything began.
        OrchestratorError: storage failed before the first worker was there.
    """
    with ExitStack() as stack:
        if link is not None:
            stack.callback(link.close)
        if not config.output:
            raise ConfigError(
                "--output is missing", remedy="Name the directory URL for the checkpoints to come"
            )
        check_input(config)
        output = open_location(config.output)
        given = list(observer) if isinstance(observer, Sequence) else [observer] if observer else []
        observers = Observers([*given, *own_observers(config, output)])
        inbox = Inbox()
        door = Door(inbox.put)
        stack.enter_context(door.leaving())
        listen = stack.enter_context(signals_to(door.tell))
        stack.callback(_close, observers, door)
        if link is None:
            link = RayLink(config)
            stack.callback(link.close)
        if link.starts_a_ray:
            check_crowd(config)
        return _resume(config, output, _connected(link, listen), observers, inbox, door)


def _close(observers: Observers, door: Door) -> None:
    with door.after_the_end():
        observers.close()


def _connected(link: RayLink, listen: Callable[[], None]) -> Callable[[], None]:
    """Returns when Ray can be used and signals are ours."""

    def wait() -> None:
        link.wait()
        listen()

    return wait


def own_observers(config: RunConfig, output: Location) -> list[Observer]:
    """Who watches every run: Ray's metrics, TensorBoard events unless they were turned off, and
    whoever is to be notified.

    Raises:
        ConfigError: a webhook's variable isn't set, or a callback can't be made.
    """
    found: list[Observer] = [RayMetrics(output.shown)]
    if config.tensorboard:
        found.append(EventWriter(output))
    return [
        *found,
        *notifier_of(config.notify, output.shown, os.environ),
        *callbacks_of(config, output.shown),
    ]


def _resume(
    config: RunConfig,
    output: Location,
    connected: Callable[[], None],
    observers: Observers,
    inbox: Inbox,
    door: Door,
) -> RunResult:
    record = read_run_record(output)
    namespace = namespace_of(output.url)
    ready: Ready | None = None
    proof: Proof | None = None
    if record is not None:
        door.close()  # workers of a driver that died have a state to save
        connected()
    if record is None or not living_workers(namespace):
        door.open()
        found = prepared(config, output, record)
        if isinstance(found, StartPoint):
            if record is not None:
                tidy(lambda: Claim.take(config, output), output, found.own_label)
            return ended_before_it_began(output.shown, found)
        with proving(config, found, record) as trial:
            connected()
            check_room(config, namespace)
            proof = trial()
        ready = found
    door.close()
    with Claim.take(config, output) as claim:
        return begin(claim, ready, record, proof, observers, inbox)


def check_room(config: RunConfig, namespace: str) -> None:
    """Refuse more workers than the cluster can place, unless waiting was asked for.

    Args:
        namespace: of a run none of whose workers lives; what it still holds counts as free.

    Raises:
        PlacementError: says what is free.
    """
    free, wanted = room(config.workers, namespace=namespace), config.workers.count
    if free >= wanted or config.wait:
        return
    asked = f"{config.workers.cpus:g} CPUs" + (
        f" and {config.workers.gpus:g} GPUs" if config.workers.gpus else ""
    )
    raise PlacementError(
        f"the cluster has room for {free} of {wanted} workers of {asked} each; free: {describe(free_resources(namespace))}",
        remedy="Ask for fewer or smaller workers, or wait for room with --wait",
        details={"room": free, "wanted": wanted},
    )
