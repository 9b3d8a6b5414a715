"""What is a worker to Ray?

Rule: a thin, detached, named actor around ``member.Member``. Control calls are answered in threads
of their own while the graph trains. Every call carries the attempt's number and a lower one is
refused, so that a driver that wakes up late commands nobody. Without any call for
``orphan_timeout_s`` the process ends itself and gives its place back.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from typing import Any

from orchestrator.decide import events as ev
from orchestrator.decide.spans import RowSpan
from orchestrator.errors import ConfigError, FatalError, LeaseLost, OrchestratorError, WorkerLost
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.member import Member
from orchestrator.workers.orders import Given, GrantOrder, JoinOrder, Setup
from orchestrator.workers.placement import give_back, this_group

LAST_WORD_S = 2.0
"""A worker that dies of an error waits so long, so that the error is fetched."""
LEAVE_S = 5.0
"""Longest time for an orphan to give its places back: it may be an orphan because Ray's head, which
it asks, is gone.
"""
CONCURRENCY_GROUPS = {"control": 4, "poll": 2, "hand_over": 2}


class WorkerActor:
    """One worker process. Made through ``fleet``; ``setup`` comes out of the object store."""

    def __init__(self, ident: str, attempt: int, setup: Setup) -> None:
        from orchestrator.workers.runtime import RealTools, these_gpus, this_node

        self._attempt, self._contact_s = attempt, time.monotonic()
        self._orphan_timeout_s = setup.orphan_timeout_s
        self._event_buffer = EventBuffer()
        self._setup = setup
        self._ident, self._group = ident, this_group()
        self._member = Member(
            ident,
            (this_node(), os.getpid()),
            RealTools(setup),
            self._event_buffer,
            these_gpus(),
            self._group,
        )
        # Ray runs an actor's constructor in the main thread
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._work, name="tfresume-work", daemon=True).start()
        threading.Thread(
            target=self._watch_for_orphanage, name="tfresume-orphan", daemon=True
        ).start()

    def poll(self, attempt: int, after: int, pulse_s: float) -> tuple[int, list[ev.Event]]:
        """Events after number ``after``; where there's none for ``pulse_s``, a sign of life."""
        self._obey(attempt)
        return self._member.news(after, pulse_s)

    def adopt(self, attempt: int) -> dict[str, Any]:
        """Obey a new driver from now on; the fields of ``decide.machine.WorkerReport``."""
        self._obey(attempt)
        self._member.forget_saves(attempt)
        return self._member.report()

    def setup(self, attempt: int) -> Setup:
        """What this worker was made with, so that a new driver needs to read nothing."""
        self._obey(attempt)
        return self._setup

    def join(self, attempt: int, order: JoinOrder, donated: Any, *rows: Any) -> None:
        """Join a generation; ``donated`` is a ``Donation`` out of the object store, or None, and
        ``rows`` are ``GivenRows``.
        """
        self._obey(attempt)
        self._member.join(order, Given(donated, rows))

    def grant(self, attempt: int, order: GrantOrder) -> None:
        """Let the group run further."""
        self._obey(attempt)
        self._member.grant(order)

    def quiesce(self, attempt: int, generation: int, urgent: bool) -> None:
        """Stop at the next step boundary and hold the state; ``urgent``: a peer is gone, abandon
        the step under way.
        """
        self._obey(attempt)
        self._member.quiesce(generation, urgent=urgent)

    def break_step(self, attempt: int, generation: int) -> None:
        """Make the hanging step fail."""
        self._obey(attempt)
        self._member.break_step(generation)

    def held_state(self, attempt: int) -> tuple[Any, bool]:
        """A ``Donation``, which Ray puts into the object store for whoever needs it, and whether
        there is one.
        """
        self._obey(attempt)
        held = self._member.held_state()
        return held, held is not None

    def held_rows(self, attempt: int, wanted: tuple[tuple[RowSpan, ...], ...]) -> tuple[Any, ...]:
        """``GivenRows`` for each of those who want some, and at last that they are there."""
        self._obey(attempt)
        return (*self._member.held_rows(wanted), True)

    def loaded_state(self, attempt: int, generation: int) -> Any:
        """The ``Donation`` that this member has read from a checkpoint for ``generation``; waits
        until it has.
        """
        self._obey(attempt)
        state = self._member.loaded_state(generation)
        if state is None:
            raise WorkerLost(
                f"worker {self._ident} has no state for generation {generation}",
                remedy="Nothing: the group is formed anew",
            )
        return state

    def _obey(self, attempt: int) -> None:
        if attempt < self._attempt:
            raise LeaseLost(
                f"worker {self._ident} obeys the driver of attempt {self._attempt}, not of {attempt}",
                remedy="Nothing is to be done: the newer driver goes on with the run",
            )
        self._attempt, self._contact_s = attempt, time.monotonic()

    def _on_sigterm(self, _signum: int, _frame: Any) -> None:
        # In a thread, since the handler may interrupt a holder of the event_buffer's lock
        notice = ev.Notice(self._ident, "SIGTERM")
        threading.Thread(target=self._event_buffer.put, args=(notice,), daemon=True).start()

    def _work(self) -> None:
        try:
            self._member.run()
        except BaseException as error:  # noqa: BLE001 - told to the driver, which judges it; then this process ends, whatever it was
            self._event_buffer.put(_gone(self._ident, error))
            time.sleep(LAST_WORD_S)
        os._exit(0)

    def _watch_for_orphanage(self) -> None:
        while time.monotonic() - self._contact_s < self._orphan_timeout_s:
            time.sleep(min(1.0, self._orphan_timeout_s / 10))
        # Its places go with it, or they would hold the room of a run that is dead; a Ray that
        # doesn't answer can't keep the process
        groups = sorted({self._group, str(self._member.report()["lent_group"])} - {""})
        leaving = threading.Thread(target=give_back, args=(groups,), daemon=True)
        leaving.start()
        leaving.join(LEAVE_S)
        os._exit(3)


def _gone(ident: str, error: BaseException) -> ev.Gone:
    detail = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, FatalError | ConfigError):
        return ev.Gone(ident, ev.Cause.ERROR, detail, error.as_dict())
    if isinstance(error, OrchestratorError):
        return ev.Gone(ident, ev.Cause.ERROR, error.message)
    return ev.Gone(ident, ev.Cause.ERROR, detail)
