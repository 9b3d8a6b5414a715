"""What happens to a copy of the state between the step it was taken at and the store?

Rule: one copy at a time, in a thread of its own. Every rank computes checksums; the writer also
looks for NaN and measures, writes and uploads. Where tables are divided each rank does that with its
rows, and where there's much of what all hold alike, with its part of that. They report what they wrote; the driver commits.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.decide import events as ev
from orchestrator.decide.outliers import Size
from orchestrator.decide.save_parts import SavedPart
from orchestrator.errors import OrchestratorError
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.orders import GrantOrder
from orchestrator.workers.runtime_protocol import Tools

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SaveJob:
    """A copy of the state at an agreed step.

    Attributes:
        rank: whose it is.
        watched: the last values of the watched tensors on this rank.
        stall_s: how long training stood still for the copy.
        still_since_s: when it began to stand still, by ``time.monotonic``, where it does until all
            is sent.
        then: called when the save is through, however it went.
    """

    state: Any
    rank: int
    position: int
    grant: GrantOrder
    watched: Mapping[str, float]
    stall_s: float = 0.0
    still_since_s: float | None = None
    then: Callable[[], None] = lambda: None

    @property
    def stood_s(self) -> float:
        """How long training has stood still for this save by now."""
        since_s = self.still_since_s
        return self.stall_s if since_s is None else time.monotonic() - since_s


@dataclass(frozen=True)
class Measure:
    """The state of a checkpoint that was read."""

    state: Any


class Saver:
    """Carries one copy of the state to the store, behind the training."""

    def __init__(self, ident: str, tools: Tools, event_buffer: EventBuffer) -> None:
        self._ident, self._tools, self._event_buffer = ident, tools, event_buffer
        self._jobs: queue.Queue[SaveJob | Measure | None] = queue.Queue()
        self._busy = threading.Lock()
        self._measured: Mapping[str, Size] = {}
        self._thread: threading.Thread | None = None

    def begin(self, grant: GrantOrder, rank: int, step: int, position: int) -> bool:
        """Make room for a copy; ``submit`` or ``fail`` must follow. While another one is under way
        the save fails here.
        """
        if self._busy.acquire(blocking=False):
            return True
        why = "the worker is still busy with an earlier save"
        self._refuse(grant, rank, step, position, why, busy=True)
        return False

    def fail(self, grant: GrantOrder, rank: int, step: int, position: int, reason: str) -> None:
        """No copy could be made."""
        self._busy.release()
        self._refuse(grant, rank, step, position, reason)

    def submit(self, job: SaveJob) -> None:
        """Take a copy over; nobody changes it until the next ``begin``, nor what it has in place of
        one until the job is through.
        """
        self._put(job)

    def measure(self, state: Any) -> None:
        """Note how large the variables of a checkpoint are, for the next save to be compared with."""
        self._put(Measure(state))

    def _put(self, job: SaveJob | Measure) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tfresume-save", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self) -> None:
        """Wait for the job under way."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, Measure):
                self._measured = self._sizes_of(job.state)
                del job  # its state's memory, before the next one comes
                continue
            try:
                self._save(job)
            except OrchestratorError as error:
                self._refuse(job.grant, job.rank, job.state.step, job.position, str(error))
            except Exception as error:  # noqa: BLE001 - a save that fails never stops training; the driver counts it
                told = f"{type(error).__name__}: {error}"
                self._refuse(job.grant, job.rank, job.state.step, job.position, told)
            finally:
                then = job.then
                del job  # its state's memory, before the next copy may begin
                self._busy.release()
                then()

    def _sizes_of(self, state: Any) -> Mapping[str, Size]:
        try:
            return self._tools.sizes(state)
        except Exception as error:  # noqa: BLE001 - only the comparison of the first save is lost by it
            log.warning(
                "the first save is compared with nothing: %s: %s", type(error).__name__, error
            )
            return {}

    def _save(self, job: SaveJob) -> None:
        grant, step = job.grant, job.state.step
        digests = dict(self._tools.digests(job.state))
        if job.rank < grant.parts:
            self._save_part(job, digests)
            return
        if grant.writer != self._ident:
            self._measured = {}  # others have measured since
            self._tell_checked(grant, step, job.position, digests)
            return
        bad = (*self._tools.nonfinite(job.state), *_nonfinite(job.watched))
        sizes, measured = self._tools.sizes(job.state), self._measured
        written = self._tools.write(job.state, grant.directory, _again(job))
        self._event_buffer.put(
            ev.SaveWritten(
                self._ident,
                grant.generation,
                step,
                job.position,
                written.directory,
                written.prefix,
                written.files,
                digests,
                bad,
                job.stood_s,
                sizes,
                measured,
            )
        )
        self._measured = sizes

    def _tell_checked(
        self,
        grant: GrantOrder,
        step: int,
        position: int,
        digests: Mapping[str, int],
        part: SavedPart | None = None,
    ) -> None:
        about = (self._ident, grant.generation, step)
        self._event_buffer.put(ev.SaveChecked(*about, digests, position, part, grant.save[1]))

    def _save_part(self, job: SaveJob, digests: Mapping[str, int]) -> None:
        """Write this rank's rows, and what is dealt to it of what all hold alike."""
        grant, step, position = job.grant, job.state.step, job.position
        own = self._tools.own_part(job.state, job.rank, grant.parts)
        bad, sizes = self._tools.nonfinite(own), self._tools.sizes(own)
        measured = {name: size for name, size in self._measured.items() if name in sizes}
        part = job.rank, grant.parts
        written = self._tools.write_part(own, grant.directory, _again(job), part)
        made = (written.rank, step, position, grant.save[1], written.report, written.files)
        over = 0 if grant.over is None else grant.over[1]
        saved = SavedPart(*made, bad, sizes, measured, job.stood_s, over)
        if grant.writer == self._ident:
            about = (self._ident, grant.generation, step)
            where, shown = (position, written.directory, written.prefix), _nonfinite(job.watched)
            self._event_buffer.put(
                ev.SaveWritten(*about, *where, (), digests, shown, job.stood_s, part=saved)
            )
        else:
            self._tell_checked(grant, step, position, digests, saved)
        # Of a save of changed rows nothing is measured but what isn't divided; else what this rank
        # doesn't write any more others have measured since
        self._measured = sizes if grant.over is None else {**self._measured, **sizes}

    def _refuse(
        self,
        grant: GrantOrder,
        rank: int,
        step: int,
        position: int,
        reason: str,
        *,
        busy: bool = False,
    ) -> None:
        # Who only checks has no checksums to give, and a save doesn't fail for that
        if grant.writer == self._ident or rank < grant.parts:
            about = (grant.generation, step, reason, busy, position)
            self._event_buffer.put(ev.SaveFailed(*about, self._ident, grant.save[1]))
        else:
            self._tell_checked(grant, step, position, {})


def _again(job: SaveJob) -> int | None:
    """The position, where an earlier checkpoint has the same step."""
    return job.position if job.state.step == job.grant.saved else None


def _nonfinite(watched: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(name for name, value in watched.items() if not math.isfinite(value))
