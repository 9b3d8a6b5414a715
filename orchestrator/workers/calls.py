"""How are workers called, and how does the driver hear their answers and their deaths?

Rule: nothing is waited for, nor is the sending (``sending``). Every call carries the attempt's
number, and a worker refuses a lower one than it has seen. Each worker is asked for its events all
the time, one question after the other; whatever ends that tells of its death, once, with the cause
that the driver gave where it ended the worker itself.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Collection
from typing import Any

import ray
from ray import exceptions as rex

from orchestrator.decide import events as ev
from orchestrator.decide import signs_of_life
from orchestrator.errors import LeaseLost
from orchestrator.exit_codes import ended_text
from orchestrator.workers.placement import Placement
from orchestrator.workers.scheduling import THREADS, Scheduler
from orchestrator.workers.sending import Sender

ASK_AGAIN_S = 0.2
"""Before a worker that can't be reached just now is asked again: Ray finds out within seconds
whether it's dead, and a worker that has only been slow is heard again soon.
"""

WITHOUT_A_WORD = "its process ended without a word: killed (SIGKILL, the kernel's out-of-memory killer) or crashed"
"""Neither Ray nor its raylet tells the signal of a process that couldn't say goodbye."""


class Calls:
    """The workers of one run, as one driver calls them. Methods may be called from any thread.

    Args:
        attempt: goes with every call.
        placement: is told who has arrived and who has left.
        tell: takes an event; called from Ray's threads.

    Attributes:
        actors: Ray's handle by name of the worker, of those who aren't known to be gone.
        closed: nothing that comes back is told any more.
    """

    def __init__(
        self,
        attempt: int,
        placement: Placement,
        tell: Callable[[ev.Event], None],
        scheduler: Scheduler = THREADS,
    ) -> None:
        self._attempt, self._placement, self.tell = attempt, placement, tell
        self._scheduler = scheduler
        self._sender = Sender(scheduler)
        self.actors: dict[str, Any] = {}
        self.closed = False
        # Who isn't here is gone: names of the dead would pile up over months
        self._awaited: set[str] = set()
        self._ending: dict[str, tuple[ev.Cause, str]] = {}
        self._gone_changed = threading.Condition()

    def expect(self, worker: str) -> None:
        """A worker is started, or found: its death will be told."""
        with self._gone_changed:
            self._awaited.add(worker)

    def is_gone(self, worker: str) -> bool:
        """Whether its death was told."""
        return worker not in self._awaited

    def listen(self, worker: str, actor: Any) -> bool:
        """Hear a worker's events from now on; False, and not, where it was ended before it was
        there, or nothing is told any more.
        """
        with self._gone_changed:
            if self.closed or self.is_gone(worker):
                return False
            self.actors[worker] = actor
        self._poll(worker, actor, 0)
        return True

    def not_started(self, worker: str, error: BaseException) -> None:
        """A worker couldn't be started: tells that it's gone."""
        if not self.closed:
            self._tell_gone(ev.Gone(worker, ev.Cause.ERROR, _first_line(error)))

    def call(self, worker: str, method: str, *args: Any, generation: int | None = None) -> None:
        """Have a method of a worker called, if it lives.

        Args:
            generation: of the group that a failure of this call keeps from forming; None where a
                failure needn't be told.
        """
        self._sender.ask(lambda: self._call(worker, method, args, generation))

    def _call(
        self, worker: str, method: str, args: tuple[Any, ...], generation: int | None
    ) -> None:
        actor = self.actors.get(worker)
        if actor is None:
            return
        try:
            ref = getattr(actor, method).remote(self._attempt, *args)
        except Exception as error:  # noqa: BLE001 - what couldn't be sent has failed like what wasn't received; the thread goes on
            self._called(worker, method, args, generation, error)
            return
        ref.future().add_done_callback(
            lambda future: self._called(worker, method, args, generation, future.exception())
        )

    def close(self) -> None:
        """Call nobody and tell nothing any more."""
        self.closed = True
        self._sender.close()

    def ends(self, worker: str, cause: ev.Cause, detail: str) -> Any:
        """The driver ends this worker: its death will be told with this cause.

        Returns:
            Its handle; None where there is none, and then its death has been told.
        """
        with self._gone_changed:
            actor = self.actors.get(worker)
            if actor is not None:
                self._ending[worker] = (cause, detail)
            else:
                self._tell_gone(ev.Gone(worker, cause, detail))
        return actor

    def wait_until_gone(self, workers: Collection[str], timeout_s: float) -> None:
        """Return when all of these are gone, or nothing is told any more, or the time is over."""
        with self._gone_changed:
            self._gone_changed.wait_for(
                lambda: self._awaited.isdisjoint(workers) or self.closed, timeout_s
            )

    def _called(
        self,
        worker: str,
        method: str,
        args: tuple[Any, ...],
        generation: int | None,
        error: BaseException | None,
    ) -> None:
        if error is None or self.closed:
            return
        if isinstance(error, rex.ActorUnavailableError) and generation is None:
            # Else its group would stand at the end of the last grant until that's taken for a hang.
            # What was heard the first time changes nothing the second
            self._scheduler.later(ASK_AGAIN_S, lambda: self._call_again(worker, method, args))
            return
        if isinstance(error, rex.RayActorError) and method != "join":
            return  # a death is told once, by the poll
        cause = getattr(error, "cause", error)
        if isinstance(cause, LeaseLost):
            self.tell(ev.Fenced(cause.as_dict()))
        elif generation is not None:
            # The donor died before its state had passed, or the order couldn't be delivered
            self.tell(ev.JoinFailed(worker, generation, _first_line(error)))

    def _call_again(self, worker: str, method: str, args: tuple[Any, ...]) -> None:
        if not self.closed:
            self.call(worker, method, *args)

    def _poll(self, worker: str, actor: Any, after: int) -> None:
        pulse_s = signs_of_life.pulse_s(len(self.actors))
        ref = actor.poll.remote(self._attempt, after, pulse_s)
        ref.future().add_done_callback(lambda future: self._polled(worker, actor, after, future))

    def _polled(self, worker: str, actor: Any, after: int, future: Any) -> None:
        if self.closed:
            return
        error = future.exception()
        if error is None:
            after, found = future.result()
            for event in found:
                if isinstance(event, ev.Warm):
                    self._placement.arrived(worker, event.node, event.devices)
                self.tell(event)
            self._poll(worker, actor, after)
        elif isinstance(error, rex.ActorUnavailableError):
            # Ray doesn't know yet whether it's dead or only can't be reached
            self._scheduler.later(ASK_AGAIN_S, lambda: self._poll(worker, actor, after))
        elif isinstance(error, rex.RayActorError):
            ended = self._ending.get(worker)
            self._tell_gone(ev.Gone(worker, *ended) if ended else why_gone(worker, error))
        elif isinstance(getattr(error, "cause", None), LeaseLost):
            self.tell(ev.Fenced(error.cause.as_dict()))
        else:
            # A worker whose answers fail can't be commanded any more, whatever it does
            ray.kill(actor, no_restart=True)
            self._tell_gone(ev.Gone(worker, ev.Cause.ERROR, _first_line(error)))

    def _tell_gone(self, gone: ev.Gone) -> None:
        worker = gone.worker
        with self._gone_changed:
            if self.is_gone(worker):
                return
            self._awaited.discard(worker)
            self._ending.pop(worker, None)
            self.actors.pop(worker, None)
            self._placement.free(worker)
            self._gone_changed.notify_all()
        self.tell(gone)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def why_gone(worker: str, error: Any) -> ev.Gone:
    """Why Ray says that an actor is gone. Its text is the only place that tells a lost node, or how
    a process ended; of one that was killed or has crashed it only tells that its connection broke.
    """
    text = str(error)
    if getattr(error, "preempted", False):
        return ev.Gone(worker, ev.Cause.PREEMPTED, "its node was preempted")
    if "node has died" in text or "node died" in text or "NODE_DIED" in text:
        return ev.Gone(worker, ev.Cause.NODE, "its node is gone")
    if "OOM killer" in text and "due to the node running low" in text:
        reason = "out of memory: Ray ended it, since its node ran low"
        return ev.Gone(worker, ev.Cause.DIED, reason, exit_code=-signal.SIGKILL)
    code = re.search(r"exits with an exit code (\d+)", text)
    if code is None:
        return ev.Gone(worker, ev.Cause.DIED, WITHOUT_A_WORD)
    number = -signal.SIGTERM if "receives a SIGTERM" in text else int(code[1])
    return ev.Gone(worker, ev.Cause.DIED, ended_text(number), exit_code=number)
