"""Where does everything arrive that the loop has to hear of, and how much may wait there?

Rule: first in, first out, with one exception: a sign of life that still waits is replaced by the
worker's next one, if it says the same but for how far the worker is. So no more waits than the
workers have different things to say, however late the loop is, and what it judges is as young as
can be. Nothing a worker says overtakes anything else that it said.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass

from orchestrator.decide import events as ev
from orchestrator.journal.event import JournalEvent
from orchestrator.workers.orders import CheckpointFiles
from orchestrator.workers.scheduling import THREADS, Scheduler


@dataclass(frozen=True)
class Remark:
    """Something to be written down that no decision hangs on."""

    event: JournalEvent


@dataclass(frozen=True)
class Restorable:
    """The files of the checkpoint that a coming ``Found`` speaks of."""

    files: CheckpointFiles


class Interrupted(BaseException):
    """The second Ctrl-C: end now, without a last save."""


Message = ev.Event | Remark | Restorable | Interrupted


class Inbox:
    """What waits for the loop. ``put`` may be called from any thread and from signal handlers."""

    def __init__(self, scheduler: Scheduler = THREADS) -> None:
        self._line = scheduler.line()
        self._lock = threading.Lock()
        self._newest: dict[str, _Pulse] = {}

    def put(self, message: Message) -> None:
        """Leave a message for the loop."""
        worker = getattr(message, "worker", None)
        if worker is None:
            # Without the lock, which the thread that a signal interrupts may hold
            self._line.put(message)
            return
        with self._lock:
            waiting = self._newest.get(worker)
            if not isinstance(message, ev.Progress):
                self._newest.pop(worker, None)
                self._line.put(message)
            elif waiting is not None and _supersedes(message, waiting.progress):
                waiting.progress = message
            else:
                self._newest[worker] = pulse = _Pulse(message)
                self._line.put(pulse)

    def get(self, timeout_s: float) -> Message | None:
        """The next message; None after ``timeout_s``."""
        try:
            found: Message | _Pulse = self._line.get(timeout_s)
        except queue.Empty:
            return None
        if not isinstance(found, _Pulse):
            return found
        with self._lock:
            progress = found.progress
            if self._newest.get(progress.worker) is found:
                del self._newest[progress.worker]
        return progress


@dataclass(eq=False)
class _Pulse:
    """A sign of life that waits; as long as it does, a newer one takes its place."""

    progress: ev.Progress


def _supersedes(newer: ev.Progress, older: ev.Progress) -> bool:
    return (newer.generation, newer.doing) == (older.generation, older.doing)
