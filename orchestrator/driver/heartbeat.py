"""How do others see that this driver lives, and how do they ask it to stop?

Rule: threads of their own, so that neither a slow commit nor a busy loop makes a living driver look
dead. An output that can't be written to doesn't end the run: commits wait for the next heartbeat
that gets through, which also tells whether somebody has taken over meanwhile. A request to stop
holds also for the successor of the driver that had it and died: whoever asks takes back what nobody
has followed, and one that is old was left by somebody who couldn't.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from orchestrator.decide import events as ev
from orchestrator.driver.inbox import Message, Remark
from orchestrator.driver.storage_thread import StorageThread
from orchestrator.errors import LeaseLost, OrchestratorError
from orchestrator.journal.run_events import Warned
from orchestrator.store.objects.location import Location
from orchestrator.store.run.lease import Lease
from orchestrator.store.run.run_record import StopRequest, answer_stop_request, read_stop_requests
from orchestrator.workers.scheduling import THREADS, Scheduler

log = logging.getLogger("tfresume")
STOP_POLL_S = 1.0
"""One listing each: a person who waits for a stop notices more, and a store bills for fewer."""
STOP_GRACE_S = 120.0
"""So long a stop that was asked for through the output waits for its last save, unless that still
moves: whoever asked waits at a prompt, and can ask for ``--now``.
"""
STOP_HOLDS_S = 600.0
"""So long a request to an attempt that died holds for its successors; two machines' clocks are
nearer to each other than that.
"""
AWAY = "no heartbeat has reached the output for a lease's length: training goes on, commits wait until the output can be written again"
BACK = "the output can be written again, and nobody has taken the run over: commits go on"


class Heartbeat:
    """Beats for the lease, flushes the journal, and looks for requests to stop."""

    def __init__(
        self,
        output: Location,
        lease: Lease,
        storage_thread: StorageThread,
        tell: Callable[[Message], None],
        scheduler: Scheduler = THREADS,
    ) -> None:
        self._output, self._lease, self._storage_thread, self._tell = (
            output,
            lease,
            storage_thread,
            tell,
        )
        self._over, self._unix = scheduler.flag(), scheduler.unix
        self.requests: tuple[StopRequest, ...] = ()
        self._threads = [
            scheduler.start(self._beat, "tfresume-heartbeat"),
            scheduler.start(self._listen, "tfresume-stop"),
        ]

    def close(self) -> None:
        """Stop beating; requests, followed or outdated, are taken away."""
        self._over.set()
        for thread in self._threads:
            thread.join(10.0)
        for request in self.requests:
            try:
                answer_stop_request(self._output, request)
            except OrchestratorError as error:
                log.warning("a stop request stays in the output: %s", error)

    def _beat(self) -> None:
        was_fresh = True
        while not self._over.wait(self._lease.beat_every_s):
            # What others read of this run (status, the next driver) is never older than a beat
            self._storage_thread.flush()
            try:
                self._lease.heartbeat()
            except LeaseLost as error:
                self._tell(ev.Fenced(error.as_dict()))
                return
            except OrchestratorError as error:
                log.warning("heartbeat: %s", error)
            if self._lease.is_fresh is not was_fresh:
                was_fresh = self._lease.is_fresh
                self._tell(Remark(Warned(reason=BACK if was_fresh else AWAY)))

    def _listen(self) -> None:
        told: str | None = None
        while told != "now" and not self._over.wait(STOP_POLL_S):
            try:
                requests = read_stop_requests(self._output)
            except OrchestratorError as error:
                log.debug("stop requests can't be read: %s", error)
                continue
            self.requests = requests
            wanted = {item.mode for item in requests if self._is_for_us(item)}
            mode = "now" if "now" in wanted else "save" if wanted else None
            if mode is not None and mode != told:
                told = mode
                self._tell(
                    ev.StopAsked(ev.StopCause.REQUEST, 0.0 if mode == "now" else STOP_GRACE_S)
                )

    def _is_for_us(self, request: StopRequest) -> bool:
        if request.attempt in (0, self._lease.attempt):
            return True
        return request.attempt < self._lease.attempt and self._unix() - request.at < STOP_HOLDS_S
