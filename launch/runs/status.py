"""What does a run do now? The command ``status``, from the output URL alone.

Rule: the store is all that's asked: run record, journal, lease and the directories' listing. A
driver whose last heartbeat is a moment old, by the store's clock and ours, is shown as alive at
once. Any other is alive if its heartbeat changes while we look, by our own clock alone; so the
answer for a dead one on another machine takes its lease's length. Nobody takes a run over because
of what is shown here: who does never compares clocks (``decide.holding``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from launch.runs.history import History, history_of
from launch.runs.status_model import Driver, LeaseHolder, RunStatus, SavedCheckpoint, run_status
from orchestrator.decide.goodput import Account
from orchestrator.decide.holding import Hold, look
from orchestrator.decide.standing import JournaledState
from orchestrator.errors import FatalError, OutputError, SourceError
from orchestrator.store.checkpoints.run_checkpoints import list_saves
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.beating import beats
from orchestrator.store.run.lease import BEATS_PER_LEASE, NOBODY, Observed, looked, observe
from orchestrator.store.run.run_record import read_run_record, read_stop_requests
from orchestrator.store.run.snapshots import read_folds

SIDE_BY_SIDE = 3
"""What is asked for beside the lease, or beside the journal: one after the other a store that is far
away would take a dozen of its answering times.
"""
Answer = TypeVar("Answer")


def status(
    run: str,
    *,
    patience_s: float | None = None,
    now: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
    wall: Callable[[], float] = time.time,
) -> RunStatus:
    """The status of the run at an output URL.

    Args:
        patience_s: longest look at a heartbeat that doesn't change; by default the holder's lease,
            after which it counts as dead.
        now, wait, wall: the clocks, for tests.

    Raises:
        SourceError: there is no run at this URL, or it may not be read.
        StorageUnavailable: the store doesn't answer. What is damaged is in ``trouble``.
    """
    output = open_location(run)
    trouble: list[str] = []
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        asked_record = pool.submit(read_run_record, output)
        asked_newest = pool.submit(newest, output)
        record = unless_damaged(trouble, asked_record.result, None)
        # Not before: the younger this look, the less has happened since
        observed = unless_damaged(trouble, lambda: observe(output), None)
        if record is None and observed == NOBODY and not trouble:
            raise no_run(output)
        driver = Driver.SILENT
        if observed is not None:
            driver = shown_state(output, observed, patience_s, now, wait, wall)
        # After the look at the heartbeat, so that what a living driver told meanwhile is in it
        asked_stops = pool.submit(_stops, output, driver)
        seen = unless_damaged(trouble, lambda: _history(output, trouble), History())
        saved = unless_damaged(trouble, asked_newest.result, None)
        stops = unless_damaged(trouble, asked_stops.result, False)
    fields: dict[str, Any] = record.model_dump() if record is not None else {}
    found = run_status(
        *(output.shown, seen, driver, holder_of(observed), fields, saved),
        now=wall(),
        trouble=tuple(trouble),
    )
    return replace(found, stop_requested=stops)


def _stops(output: Location, driver: Driver) -> bool:
    """Whether a living run was asked to stop."""
    return driver is Driver.ALIVE and bool(read_stop_requests(output))


def holder_of(observed: Observed | None) -> LeaseHolder:
    """Who holds the run, as far as the lease can be read."""
    holder = observed.holder if observed is not None else None
    return LeaseHolder(holder.attempt, holder.name) if holder is not None else LeaseHolder()


def _history(output: Location, trouble: list[str]) -> History:
    """What the journal says; only its end is read where a snapshot of the rest is there."""
    reading = read_folds(output, {"standing": JournaledState, "account": Account})
    trouble += map(str, reading.damaged)
    standing, account = reading.folds["standing"], reading.folds["account"]
    assert isinstance(standing, JournaledState)
    assert isinstance(account, Account)
    return history_of(standing, account)


def unless_damaged(trouble: list[str], read: Callable[[], Answer], otherwise: Answer) -> Answer:
    """What ``read`` returns; a command that looks at a run and fails where something of it is
    damaged is of no use.
    """
    try:
        return read()
    except (OutputError, FatalError) as error:
        trouble.append(str(error))
        return otherwise


def no_run(output: Location) -> SourceError:
    """The error for a URL at which no run has begun."""
    return SourceError(
        f"there is no run at {output.shown}: it holds no _tfresume/run.json",
        remedy="Give the --output of a run; `tfresume inspect` looks at a source, and `tfresume status RUN --address http://HEAD:8265` "
        "finds a job that failed before its run began",
        details={"url": output.shown, "missing": True},
    )


def shown_state(
    output: Location,
    observed: Observed,
    patience_s: float | None,
    now: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
    wall: Callable[[], float] = time.time,
) -> Driver:
    """Whether the run's driver lives, for people: at once where its heartbeat is young."""
    if beats(observed, wall()):
        return Driver.ALIVE
    return driver_state(output, observed, patience_s, now, wait)


def driver_state(
    output: Location,
    observed: Observed,
    patience_s: float | None,
    now: Callable[[], float],
    wait: Callable[[float], None],
) -> Driver:
    """Whether the run's driver lives; watches its heartbeat as long as that takes."""
    if observed.holder is None:
        return Driver.NONE
    if observed.released:
        return Driver.RELEASED
    if observed.dead:
        return Driver.DEAD
    lease_s = observed.holder.lease_s
    deadline_s = now() + (lease_s if patience_s is None else patience_s)
    hold, watch = look(None, observed.sight, now())
    while hold is Hold.WAIT and now() < deadline_s:
        wait(min(lease_s / BEATS_PER_LEASE / 2, 1.0))
        _, hold, watch = looked(output, watch, now)
    return {Hold.REFUSE: Driver.ALIVE, Hold.TAKE: Driver.DEAD, Hold.WAIT: Driver.SILENT}[hold]


def newest(output: Location) -> SavedCheckpoint | None:
    """The newest committed checkpoint of the run, unverified; None without one."""
    saves = list_saves(output)
    first = next((item for item in saves if not item.is_changes), None)
    if first is None:
        return None
    file = first.manifest_file
    return SavedCheckpoint(
        *(first.prefix.shown, first.label, first.step, first.size_bytes),
        file.modified if file else None,
        saves[0].step if saves[0].is_changes else None,
    )
