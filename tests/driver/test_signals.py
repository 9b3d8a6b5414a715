"""Do several SIGTERMs count as one, and only a late second Ctrl-C force the end?"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.decide.events import StopAsked, StopCause
from orchestrator.driver import main
from orchestrator.driver.inbox import Interrupted, Message
from orchestrator.driver.signals import FORCE_AFTER_S, Door, Left, signals_to
from orchestrator.errors import Preempted

ROOT = Path(__file__).resolve().parents[2]


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


def test_door_that_is_open_lets_a_signal_end_at_once_what_hasnt_begun() -> None:
    kept: list[Message] = []
    door = Door(kept.append)
    with pytest.raises(Left) as left, signals_to(door.tell):
        signal.raise_signal(signal.SIGTERM)
    assert isinstance(left.value.told(), Preempted)
    told = left.value.told()
    assert str(told) == "ended by SIGTERM before anything began. The same command starts it"
    assert str(left.value) == "SIGTERM"


def test_door_tells_why_it_was_left_also_where_compiled_code_made_another_error_of_it() -> None:
    kept: list[Message] = []
    door = Door(kept.append)

    def interrupted() -> None:
        try:
            door.tell(StopAsked(StopCause.SIGTERM, 25.0))
        except BaseException as left:
            raise TypeError("expected a message argument") from left

    with pytest.raises(Preempted, match="before anything began"), door.leaving():
        interrupted()
    untouched = Door(kept.append)
    with pytest.raises(TypeError), untouched.leaving():
        raise TypeError("a fault of our own")


def test_door_that_is_closed_keeps_the_wish_and_lets_go_once_there_is_nothing_to_end() -> None:
    kept: list[Message] = []
    door = Door(kept.append)
    door.close()
    with signals_to(door.tell):
        os.kill(os.getpid(), signal.SIGINT)
        assert [type(item) for item in kept] == [StopAsked]
        with pytest.raises(Left) as left:
            door.open()
    assert isinstance(left.value.told(), KeyboardInterrupt)


def test_door_lets_out_who_asks_again_once_it_is_open_and_else_leaves_it_to_the_loop() -> None:
    kept: list[Message] = []
    door = Door(kept.append)
    door.close()
    forced = Interrupted()
    door.tell(forced)
    door.open()
    with pytest.raises(Left) as left:
        door.tell(StopAsked(StopCause.SIGTERM, 25.0))
    assert left.value.cause is StopCause.SIGTERM
    assert kept == [forced, StopAsked(StopCause.SIGTERM, 25.0)]
    with door.after_the_end():
        door.tell(forced)
        pytest.fail("a second Ctrl-C leaves those who look on")
    assert len(kept) == 3


class Tracker:
    """An observer whose end takes its time."""

    def __init__(self, ends: Callable[[], None]) -> None:
        self._ends = ends

    def event(self, event: object) -> None:
        """Nothing is made of it."""

    def progress(self, progress: object) -> None:
        """Nothing is made of it."""

    def close(self) -> None:
        self._ends()


class Link:
    """Ray, as far as it matters here."""

    starts_a_ray = False

    def close(self) -> None:
        """There is nothing to be closed."""


def test_interrupt_while_trackers_end_breaks_that_off_and_the_answer_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    def waits() -> None:
        signal.raise_signal(signal.SIGTERM)  # asks for the end, which is there
        ended.append("told to end")
        signal.raise_signal(signal.SIGINT)
        ended.append("had all its time")

    monkeypatch.setattr(main, "_resume", lambda *_: "the answer")
    monkeypatch.setattr(main, "own_observers", lambda *_: [])
    link: Any = Link()
    config = parse_config({"source": "s", "output": "memory://more"})
    before = signal.getsignal(signal.SIGINT)
    with caplog.at_level(logging.WARNING, "tfresume"):
        answer: Any = main.resume(config, observer=Tracker(waits), link=link)
    assert (answer, ended) == ("the answer", ["told to end"])
    assert "interrupted: who looks on" in caplog.text
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_of_a_command_that_is_refused_leaves_it_as_an_interrupt_always_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(main, "_resume", lambda *_: pytest.fail("it went on"))
    monkeypatch.setattr(main, "own_observers", lambda *_: [])
    monkeypatch.setattr(main, "RayLink", lambda _: signal.raise_signal(signal.SIGINT))
    config = parse_config({"source": "s", "output": "memory://more"})
    with pytest.raises(KeyboardInterrupt):
        main.resume(config)


AFTER_CONNECTING = """
import os, queue, signal, sys
from orchestrator.config import parse_config
from orchestrator.driver.ray_link import RayLink
from orchestrator.driver.signals import signals_to

told = queue.SimpleQueue()
with signals_to(told.put) as listen:
    link = RayLink(parse_config({"source": "s", "output": "o", "address": sys.argv[1]}))
    link.wait()
    listen()
    os.kill(os.getpid(), signal.SIGTERM)
    asked = told.get(timeout=30)
    print(type(asked).__name__, signal.alarm(0))  # what was left of an alarm
    link.close()
"""


@pytest.mark.ray
def test_sigterm_after_ray_is_connected_asks_for_a_last_save_and_sets_no_alarm_that_aborts_it(
    ray_address: str,
) -> None:
    command = [sys.executable, "-c", AFTER_CONNECTING, ray_address]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["StopAsked 0"], done.stderr[-2000:]
