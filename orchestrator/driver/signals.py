"""What do SIGTERM and Ctrl-C do to a run?

Rule: the first of either asks for a last save and the end; more of them change nothing, except that
a second Ctrl-C, two seconds after the first, ends at once. Ray's job server signals a driver and
its children, so several SIGTERMs are one. Once the run has ended, Ctrl-C only leaves those who look
on.

Ray takes SIGTERM over when it connects: its handler passes the signal on to ours, but sets an alarm
that aborts the process three seconds later, in the middle of the last save. So ours is set again
once Ray is connected.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.decide import events as ev
from orchestrator.driver.inbox import Interrupted, Message
from orchestrator.errors import Preempted

log = logging.getLogger("tfresume")

FORCE_AFTER_S = 2.0
"""A second Ctrl-C sooner than this is taken for the same one: several processes on the way pass it
on, and impatient fingers press twice.
"""
SIGTERM_GRACE_S = 25.0
"""Spot machines give 25 to 30 seconds."""
SIGINT_GRACE_S = 300.0
"""As ``decide.endings.LAST_SAVE_S``: nobody is about to kill a process that was stopped by hand, so
its last save gets its time.
"""


class Left(BaseException):
    """Somebody asks for the end while there is nothing to be ended, or nothing any more; no handler
    of other errors is to catch it.
    """

    def __init__(self, cause: ev.StopCause) -> None:
        super().__init__(cause.value)
        self.cause = cause

    def told(self) -> BaseException:
        """What the caller is told."""
        if self.cause is ev.StopCause.SIGINT:
            return KeyboardInterrupt()
        return Preempted(
            f"ended by {self.cause.value} before anything began",
            remedy="The same command starts it",
        )


class Door:
    """Leaves a run at once as long as it may be left: nothing has begun, and no workers of an
    earlier driver wait.

    Else the wish is kept in the inbox, for the loop.
    """

    def __init__(self, keep: Callable[[Message], None]) -> None:
        self._keep, self._is_open = keep, True
        self._has_ended = False
        self._asked: ev.StopAsked | None = None
        self._left: Left | None = None

    def tell(self, message: Message) -> None:
        """Take a signal's message. Raises Left."""
        self._keep(message)
        cause = message.cause if isinstance(message, ev.StopAsked) else None
        if self._has_ended:
            if isinstance(message, Interrupted) or cause is ev.StopCause.SIGINT:
                raise Left(ev.StopCause.SIGINT)
        elif isinstance(message, ev.StopAsked):
            self._asked = message
            if self._is_open:
                self._left = Left(message.cause)
                raise self._left

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Whoever leaves through the door is told why.

        Compiled code that a signal interrupts may make an error of its own out of ``Left``
        ("expected a message argument", say).
        """
        try:
            yield
        except Left as left:
            raise left.told() from None
        except Exception as error:
            if self._left is None:
                raise
            raise self._left.told() from error

    @contextmanager
    def after_the_end(self) -> Iterator[None]:
        """What is done for those who look on, once the run has ended: Ctrl-C breaks it off and
        changes nothing else.
        """
        self._has_ended = True
        try:
            yield
        except Left:
            log.warning("interrupted: who looks on (trackers, webhooks) may not have been told all")
        finally:
            self._has_ended = False

    def close(self) -> None:
        """From now on there is something to be ended in an orderly way, or there may be."""
        self._is_open = False

    def open(self) -> None:
        """There is nothing yet. Raises Left where the end was asked for meanwhile."""
        self._is_open = True
        if self._asked is not None:
            raise Left(self._asked.cause)


@contextmanager
def signals_to(
    tell: Callable[[Message], None], clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[], None]]:
    """Turn signals into messages while the block runs. In a thread other than the main one nothing
    is changed.

    Yields:
        To be called when Ray is connected: takes the signals back from it. Ray's own handler stands
            in front of the earlier one from
        then on; at SIGTERM it prints a stack trace, and its alarm aborts the process three seconds
        after, in the middle of a last save.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    first: list[float] = []

    def on_term(_number: int, _frame: FrameType | None) -> None:
        signal.alarm(0)  # Ray's, where the signal came before it was taken back
        grace_s = float(os.environ.get("TFRESUME_GRACE_S", SIGTERM_GRACE_S))
        tell(ev.StopAsked(ev.StopCause.SIGTERM, grace_s))

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        if first and clock() - first[0] >= FORCE_AFTER_S:
            tell(Interrupted())
        elif not first:
            first.append(clock())
            tell(ev.StopAsked(ev.StopCause.SIGINT, SIGINT_GRACE_S))

    def listen() -> None:
        signal.signal(signal.SIGTERM, on_term)
        signal.signal(signal.SIGINT, on_interrupt)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    listen()
    try:
        yield listen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
