"""How is a run ended from outside, and when is it over?

Rule: the request goes through the run's own output, where its driver reads it wherever it lives; a job server's SIGTERM would leave
three seconds, which a last save may not have. The run has ended when its driver has given the lease up, or is dead: its process is gone
from this machine, or its heartbeat hasn't changed for a lease's length.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from launch.status import driver_state, no_run
from launch.status_model import Driver
from orchestrator.decide.holding import Hold, Watch, look
from orchestrator.errors import ClusterUnavailable
from orchestrator.store.lease import observe
from orchestrator.store.location import Location, open_location
from orchestrator.store.run_record import read_run_record, request_stop

LOOK_EVERY_S = 0.5
Mode = Literal["save", "now"]


@dataclass(frozen=True)
class Stopped:
    """How it went. ``state``: ``stopped``, ``asked`` (didn't wait), ``not running`` or ``dead`` (its driver was gone already)."""

    run: str
    state: Literal["stopped", "asked", "not running", "dead"]
    attempt: int | None
    waited_s: float = 0.0
    workers_ended: int = 0
    """Workers that were still there and were ended by name; looked for where a cluster's address is given."""


def stop(
    run: str,
    *,
    mode: Mode = "save",
    timeout_s: float = 300.0,
    now: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Stopped:
    """Ask the run at an output URL to stop, and wait until it has.

    Args:
        mode: ``save``: after a last checkpoint. ``now``: without.
        timeout_s: longest wait; 0 returns as soon as the request is written.
        now, wait: the clock, for tests.

    Raises:
        SourceError: there is no run at this URL.
        ClusterUnavailable: the driver lives and hasn't stopped in time; the request stands.
        OutputError, StorageUnavailable: the store refuses.
    """
    output = open_location(run)
    observed = observe(output)
    if observed.holder is None:
        if read_run_record(output) is None:
            raise no_run(output)
        return Stopped(output.shown, "not running", None)
    attempt = observed.holder.attempt
    if observed.released or observed.dead:
        return Stopped(output.shown, "not running" if observed.released else "dead", attempt)
    begun = now()
    request_stop(output, mode=mode, attempt=attempt, asked_by=f"{os.environ.get('USER', 'someone')}@{socket.gethostname()}")
    if timeout_s <= 0:
        return Stopped(output.shown, "asked", attempt)
    return _wait_for_end(output, attempt, begun, timeout_s, now, wait)


def end_workers(outcome: Stopped, run: str, address: str) -> Stopped:
    """End every worker that the stopped run has left on the cluster at ``address``, and free what they held.

    Raises:
        ConfigError: no cluster answers there.
    """
    from launch.doctor.nodes import connected
    from orchestrator.workers.namespace import end_run

    with connected(address):
        ended = end_run(open_location(run).url)
    return replace(outcome, workers_ended=int(ended["workers"]))


def _wait_for_end(
    output: Location, attempt: int, begun: float, timeout_s: float, now: Callable[[], float], wait: Callable[[float], None]
) -> Stopped:
    watch: Watch | None = None
    while now() - begun < timeout_s:
        observed = observe(output)
        if observed.holder is None or observed.released or observed.holder.attempt != attempt:
            return Stopped(output.shown, "stopped", attempt, now() - begun)
        hold, watch = look(watch, observed.sight, now())
        if hold is Hold.TAKE:
            return Stopped(output.shown, "dead", attempt, now() - begun)
        wait(LOOK_EVERY_S)
    if driver_state(output, observe(output), None, now, wait) is Driver.DEAD:
        return Stopped(output.shown, "dead", attempt, now() - begun)
    raise ClusterUnavailable(
        f"{output.shown} hasn't stopped within {timeout_s:.0f} s; its driver (attempt {attempt}) lives and has the request",
        remedy="Wait for it with `tfresume status`, or ask again with --now to leave the last save out",
    )
