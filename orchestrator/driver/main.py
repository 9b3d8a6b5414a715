"""How does one call continue a run from its checkpoint to its last step?

Rule: look, plan, place, hold the lease, look again, and let the loop work; the errors of the first
three end with nothing started and nothing written. ``resume`` is what the command calls and what a
program may call::

    from orchestrator import resume
    from orchestrator.config import parse_config

    result = resume(parse_config({"source": "gs://b/model.ckpt-500", "output": "gs://b/more",
    "until_step": 1000, "workers": 2}))
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from orchestrator.config import RunConfig
from orchestrator.decide import machine
from orchestrator.decide.events import Found
from orchestrator.decide.resume_point import last_step
from orchestrator.decide.room import describe
from orchestrator.driver.attempt import Attempt, ended_before_it_began
from orchestrator.driver.beginning import Ready, prepared, refuse_others_workers
from orchestrator.driver.loop import Inbox
from orchestrator.driver.metrics import RayMetrics
from orchestrator.driver.observer import Observer, Observers
from orchestrator.driver.proof import Proof
from orchestrator.driver.proving import proving
from orchestrator.driver.ray_link import RayLink
from orchestrator.driver.refusals import check_crowd, check_input
from orchestrator.driver.result import RunResult
from orchestrator.driver.signals import Door, signals_to
from orchestrator.driver.slots import scale_of, surplus_note, weight_of
from orchestrator.driver.startup import StartPoint, policy_of, setup_of, step_key_of
from orchestrator.driver.tensorboard_events import EventWriter
from orchestrator.errors import ConfigError, PlacementError
from orchestrator.store.objects.exclusive import weaker_promise
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.run_record import RunRecord, create_run_record, read_run_record
from orchestrator.workers.namespace import living_workers, namespace_of
from orchestrator.workers.placement import free_resources, room

SECRET_BYTES = 32
"""What the workers of one life of the group prove to each other; they hand it on to those who come
later, and nothing records it.
"""

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
        listen = stack.enter_context(signals_to(door.tell))
        stack.callback(observers.close)
        if link is None:
            link = RayLink(config)
            stack.callback(link.close)
        if link.starts_a_ray:
            check_crowd(config)
        with door.leaving():
            return _resume(config, output, _connected(link, listen), observers, inbox, door)


def _connected(link: RayLink, listen: Callable[[], None]) -> Callable[[], None]:
    """Returns when Ray can be used and signals are ours."""

    def wait() -> None:
        link.wait()
        listen()

    return wait


def own_observers(config: RunConfig, output: Location) -> list[Observer]:
    """Who watches every run: Ray's metrics, and TensorBoard events unless they were turned off."""
    metrics = RayMetrics(output.shown)
    return [metrics, EventWriter(output)] if config.tensorboard else [metrics]


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
            return ended_before_it_began(output, found)
        with proving(config, found, record) as trial:
            connected()
            check_room(config, namespace)
            proof = trial()
        ready = found
    door.close()
    with Attempt.begin(config, output, observers, inbox) as attempt:
        return _begin(attempt, config, output, ready, record, proof)


def _begin(
    attempt: Attempt,
    config: RunConfig,
    output: Location,
    ready: Ready | None,
    record: RunRecord | None,
    proof: Proof | None,
) -> RunResult:
    """The lease is held: nobody else changes the output or commands its workers from now on."""
    if attempt.number > 1 or ready is None:
        record = read_run_record(output)
        if record is not None and living_workers(namespace_of(output.url)):
            result = _adopt(attempt, config, output, record)
            if result is not None:
                return result
        again = prepared(config, output, record, ready)
        if isinstance(again, StartPoint):
            return ended_before_it_began(output, again)
        ready = again
    return _start(attempt, config, output, ready, record, proof)


def _start(
    attempt: Attempt,
    config: RunConfig,
    output: Location,
    ready: Ready,
    record: RunRecord | None,
    proof: Proof | None,
) -> RunResult:
    start, plan, past = ready.start, ready.plan, attempt.past
    wanted = RunRecord(
        source=start.source.url if record is None else record.source,
        fingerprint=start.fingerprint,
        name=start.source.name,
        started_step=plan.step,
        config=config.model_dump(mode="json"),
        created=time.time(),
        batches_per_step=ready.slots.first,
        gradient_scale=scale_of(config, record),
        weight_by=weight_of(config, record),
        proof=None if proof is None else proof.record(),
    )
    record = create_run_record(output, wanted)
    attempt.store(record, plan.step_key, plan.graph.repairs, start.parent, start.own_label)
    files = attempt.files_of(start.source, plan.step)
    attempt.announce(
        start.step,
        start.until,
        resumed_from=start.own_label,
        adopted=False,
        batches_per_step=ready.slots.count,
        proof=record.proof if proof is None else proof.record(),
        warnings=tuple(
            text
            for text in (
                *start.warnings,
                *plan.warnings,
                weaker_promise(output),
                surplus_note(config, ready.slots),
            )
            if text
        ),
    )
    secret = secrets.token_bytes(SECRET_BYTES)
    attempt.staff(
        lambda: setup_of(config, plan.graph, output, record, files, ready.slots, secret),
        one_loads=plan.is_completed,
    )
    origin = Found(plan.step, files.position, label=start.source.label)
    committed = plan.step if start.own_label else None
    run, actions = machine.begin(
        ready.policy,
        origin,
        committed,
        past.budgets(config.max_losses_per_hour),
        past.last_generation,
        time.monotonic(),
        past.next_worker(()),
        past.left_behind(),
    )
    return attempt.play(run, actions, files, start.own_label)


def _adopt(
    attempt: Attempt, config: RunConfig, output: Location, record: RunRecord
) -> RunResult | None:
    """Go on with the workers of a driver that died; None where none of them answers."""
    past = attempt.past
    refuse_others_workers(config, output, record, past.last_config)
    until = last_step(config.until_step, config.steps, record.started_step)
    living = attempt.take_over_workers()
    if living.setup is None:
        return None
    reports, graph = living.reports, living.setup.graph
    options = living.setup.options
    slots = None if options.exchange == "nccl" else options.batches_per_step
    policy = policy_of(config, graph, until, slots)
    attempt.store(record, step_key_of(graph), graph.repairs, None, past.newest_label)
    step = max(
        (report.step for report in reports if report.step is not None), default=record.started_step
    )
    attempt.announce(
        step,
        until,
        resumed_from=None,
        adopted=True,
        warnings=(),
        batches_per_step=slots,
        proof=record.proof,
    )
    run, actions = machine.adopt(
        policy,
        reports,
        past.newest_step,
        past.budgets(config.max_losses_per_hour),
        past.last_generation,
        past.next_worker(reports),
        time.monotonic(),
        past.rolled_back,
        past.left_behind(),
    )
    return attempt.play(run, actions, None, past.newest_label)


def check_room(config: RunConfig, namespace: str = "") -> None:
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
