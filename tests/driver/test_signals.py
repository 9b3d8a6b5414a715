"""Do several SIGTERMs count as one, and only a late second Ctrl-C force the end?"""

from __future__ import annotations

import os
import signal

from orchestrator.decide.events import StopAsked, StopCause
from orchestrator.driver.loop import Interrupted, Message
from orchestrator.driver.signals import FORCE_AFTER_S, signals_to


def test_signal_term_asks_for_the_end_each_time_and_never_forces_it() -> None:
    told: list[Message] = []
    with signals_to(told.append):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
    assert told
    assert all(isinstance(item, StopAsked) and item.cause is StopCause.SIGTERM for item in told)


def test_signal_second_interrupt_forces_the_end_only_after_two_seconds() -> None:
    told: list[Message] = []
    now_s = [0.0]
    with signals_to(told.append, clock=lambda: now_s[0]):
        for moment in (0.0, 0.5, FORCE_AFTER_S - 0.1, FORCE_AFTER_S):
            now_s[0] = moment
            os.kill(os.getpid(), signal.SIGINT)
    assert [type(item) for item in told] == [StopAsked, Interrupted]


def test_signal_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals_to(lambda message: None):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
