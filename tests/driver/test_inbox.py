"""Is what waits for the loop bounded, young, and never out of order?"""

from __future__ import annotations

import itertools
import random
import threading
from typing import Any

import pytest

from orchestrator.decide import events as ev
from orchestrator.driver.inbox import Inbox, Interrupted, Message


def pulse(worker: str, step: int, doing: ev.Doing = ev.Doing.STEP, generation: int = 1) -> Any:
    return ev.Progress(worker, generation, step, doing)


def drained(inbox: Inbox) -> list[Message]:
    found = []
    while (message := inbox.get(0.0)) is not None:
        found.append(message)
    return found


def test_no_more_signs_of_life_wait_than_there_are_workers_and_the_newest_is_judged() -> None:
    inbox = Inbox()
    for step in range(50):
        for worker in range(1000):
            inbox.put(pulse(f"w{worker}", step))
    waiting = drained(inbox)
    assert len(waiting) == 1000
    assert all(isinstance(item, ev.Progress) and item.step == 49 for item in waiting)
    inbox.put(pulse("w0", 50))
    assert drained(inbox) == [pulse("w0", 50)]


@pytest.mark.parametrize("seed", range(20))
def test_what_a_worker_says_keeps_its_order_and_all_but_repeated_signs_of_life_arrive(
    seed: int,
) -> None:
    chance, inbox = random.Random(seed), Inbox()
    put: list[Any] = []
    got: list[Any] = []
    for number in range(300):
        worker = f"w{chance.randrange(3)}"
        message = chance.choice(
            [
                pulse(worker, number, chance.choice([ev.Doing.STEP, ev.Doing.COMPUTING])),
                pulse(worker, number, generation=2),
                ev.Joined(worker, 2, number),
                ev.Committed(1, number),
            ]
        )
        put.append(message)
        inbox.put(message)
        if chance.random() < 0.3 and (found := inbox.get(0.0)) is not None:
            got.append(found)
    got += drained(inbox)
    order = {id(message): number for number, message in enumerate(put)}
    for name in ("w0", "w1", "w2", None):
        said = [order[id(item)] for item in got if getattr(item, "worker", None) == name]
        assert said == sorted(said)
    for message in put:
        if not isinstance(message, ev.Progress):
            assert any(item is message for item in got)
    for before, after in itertools.pairwise(put):
        alike = getattr(before, "worker", 0) == getattr(after, "worker", 1)
        if isinstance(before, ev.Progress) and alike and not isinstance(after, ev.Progress):
            assert any(item is before for item in got), "the last word before another is heard"


def test_signal_handler_that_interrupts_the_loop_at_its_inbox_does_not_wait() -> None:
    inbox, done = Inbox(), threading.Event()

    def interrupted() -> None:
        with inbox._lock:  # as in the midst of get
            inbox.put(Interrupted())
            inbox.put(ev.StopAsked(ev.StopCause.SIGTERM, None))  # type: ignore[arg-type]
        done.set()

    threading.Thread(target=interrupted, daemon=True).start()
    assert done.wait(60)
    assert len(drained(inbox)) == 2
