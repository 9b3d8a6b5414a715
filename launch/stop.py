"""How is a run ended from outside, and when is it over?

Rule: the request goes through the run's own output, where its driver reads it wherever it lives; a
job server's SIGTERM would leave three seconds, which a last save may not have. The run has ended
when its driver has given the lease up, or is dead: its process is gone from this machine, or its
heartbeat hasn't changed for a lease's length, and nobody starts it again meanwhile: one that is
being started follows what its predecessor was asked. A request that nobody has followed is taken
back, so that the next start doesn't stop at once.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from launch.runs.status import driver_state, no_run
from launch.runs.status_model import Driver
from orchestrator.decide.driver_restarts import LONGEST_DELAY_S, QUICK_S
from orchestrator.decide.holding import Hold, Watch, look
from orchestrator.errors import ClusterUnavailable
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.lease import observe
from orchestrator.store.run.run_record import (
    StopRequest,
    answer_stop_request,
    read_run_record,
    request_stop,
)

LOOK_EVERY_S = 0.5
"""Between two looks at the journal: as quick as a person notices."""
SUCCESSOR_S = LONGEST_DELAY_S + 2 * QUICK_S
"""So long a dead driver's successor may need to take the lease: the supervisor's longest delay, and
a start that takes twice what counts as slow. To wait longer costs little; who is told too early that
a run is dead starts another.
"""
Mode = Literal["save", "now"]


@dataclass(frozen=True)
class Stopped:
    """How it went. ``state``: ``stopped``, ``asked`` (didn't wait), ``not running`` or ``dead``
    (its driver was gone already).
    """

    run: str
    state: Literal["stopped", "asked", "not running", "dead"]
    attempt: int | None
    waited_s: float = 0.0
    workers_ended: int = 0
    """Workers that were still there and were ended by name; looked for where a cluster's address is
    given.
    """


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
    if observed.released:
        return Stopped(output.shown, "not running", attempt)
    if observed.dead and timeout_s <= 0:
        return Stopped(output.shown, "dead", attempt)
    begun = now()
    asked_by = f"{os.environ.get('USER', 'someone')}@{socket.gethostname()}"
    request = request_stop(output, mode=mode, attempt=attempt, asked_by=asked_by)
    if timeout_s <= 0:
        return Stopped(output.shown, "asked", attempt)
    outcome = _wait_for_end(output, request, begun, timeout_s, now, wait)
    answer_stop_request(output, request)
    return outcome


def end_workers(outcome: Stopped, run: str, address: str) -> Stopped:
    """End every worker that the stopped run has left on the cluster at ``address``, and free what
    they held.

    Raises:
        ConfigError: no cluster answers there.
    """
    from launch.doctor.nodes import connected
    from orchestrator.workers.namespace import end_run

    with connected(address):
        ended = end_run(open_location(run).url)
    return replace(outcome, workers_ended=int(ended["workers"]))


def _wait_for_end(
    output: Location,
    request: StopRequest,
    begun: float,
    timeout_s: float,
    now: Callable[[], float],
    wait: Callable[[float], None],
) -> Stopped:
    watch: Watch | None = None
    attempt, dead_since = request.attempt, None
    while now() - begun < timeout_s:
        observed = observe(output)
        if observed.holder is None or observed.released:
            return Stopped(output.shown, "stopped", attempt, now() - begun)
        if observed.holder.attempt != attempt:
            attempt, watch, dead_since = observed.holder.attempt, None, None
        hold, watch = look(watch, observed.sight, now())
        if hold is Hold.TAKE:
            dead_since = now() if dead_since is None else dead_since
            if now() - dead_since >= SUCCESSOR_S:
                return Stopped(output.shown, "dead", attempt, now() - begun)
        wait(LOOK_EVERY_S)
    if driver_state(output, observe(output), None, now, wait) is Driver.DEAD:
        return Stopped(output.shown, "dead", attempt, now() - begun)
    raise ClusterUnavailable(
        f"{output.shown} hasn't stopped within {timeout_s:.0f} s; its driver (attempt {attempt}) lives and has the request",
        remedy="Wait for it with `tfresume status`, or ask again with --now to leave the last save out",
    )
