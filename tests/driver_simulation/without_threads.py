"""How does a worker's code get along without the threads and the waiting that it has in a process?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.decide import events as ev
from orchestrator.errors import OrchestratorError
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.saver import Measure, SaveJob, Saver

if TYPE_CHECKING:
    from tests.driver_simulation.worker import SimWorker

WRITE_S = 0.5


class Idle(Exception):
    """The working loop has nothing to do."""


class Condition:
    """The mailbox's, of a worker that has no thread: who would wait is idle."""

    def __enter__(self) -> None:
        """Nobody else runs."""

    def __exit__(self, *_: object) -> None:
        """As above."""

    def notify_all(self) -> None:
        """Who waits looks after each call."""

    def wait(self, timeout: float | None = None) -> bool:
        raise Idle


class Buffer(EventBuffer):
    """Answers polls that wait, instead of waiting."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def put(self, event: ev.Event) -> None:
        super().put(event)
        self._changed()

    def pulse(self, pulse: ev.Progress) -> None:
        super().pulse(pulse)
        self._changed()


class SimSaver(Saver):
    """Writes behind the training, in simulated time."""

    def __init__(self, worker: SimWorker) -> None:
        super().__init__(worker.ident, worker, worker.buffer)
        self._worker = worker

    def _put(self, job: SaveJob | Measure) -> None:
        if isinstance(job, Measure):
            self._measured = self._sizes_of(job.state)
        else:
            self._worker.later(self._worker.world.write_s, lambda: self._do(job))

    def _do(self, job: SaveJob) -> None:
        try:
            self._save(job)
        except OrchestratorError as error:
            self._refuse(job.grant, job.rank, job.state.step, job.position, str(error))
        finally:
            self._busy.release()

    def close(self) -> None:
        """There's no thread to wait for."""
