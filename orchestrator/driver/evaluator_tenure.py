"""Who may evaluate under a name, and what ends it?

Rule: who holds the lease in the evaluator's directory, as a driver holds its run's, kept alive by a
thread. SIGTERM ends it as Ctrl-C does, and the lease is given up.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from orchestrator.errors import (
    LeaseLost,
    OrchestratorError,
    OutputError,
    Preempted,
    StorageUnavailable,
)
from orchestrator.store.run.evaluations import Evaluations
from orchestrator.store.run.lease import Lease, acquire

log = logging.getLogger("tfresume")


@contextlib.contextmanager
def held(own: Evaluations, lease_s: float) -> Iterator[Lease]:
    """The right to evaluate under a name, kept alive by a thread."""
    try:
        lease = acquire(own.place, lease_s=lease_s)
    except OutputError as error:
        holder = error.details.get("holder")
        if holder is None:
            raise
        raise OutputError(
            f"{holder} evaluates {own.output.shown} under the name {own.name} already",
            remedy="Wait for it or end it, or give this one another --name",
            details=error.details,
        ) from error
    over = threading.Event()
    beating = threading.Thread(
        target=_beat, args=(lease, over), name="tfresume-heartbeat", daemon=True
    )
    beating.start()
    try:
        yield lease
    finally:
        over.set()
        beating.join(10.0)
        with contextlib.suppress(LeaseLost, StorageUnavailable):  # it expires
            lease.release()


def _beat(lease: Lease, over: threading.Event) -> None:
    while not over.wait(lease.beat_every_s):
        try:
            lease.heartbeat()
        except LeaseLost:
            return  # the working thread finds out at its next look
        except OrchestratorError as error:
            log.warning("heartbeat: %s", error)


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends what is going on as Ctrl-C does; outside of the main thread the caller's own
    handler stays.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Preempted("ended by SIGTERM", remedy="The same command goes on where it was")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
