"""Are many calls made in their order, while who asks for them goes on?"""

from __future__ import annotations

import threading

from orchestrator.workers.scheduling import THREADS
from orchestrator.workers.sending import Sender


def test_sender_makes_calls_in_their_order_while_who_asks_goes_on() -> None:
    sender, go_on, done = Sender(THREADS), threading.Event(), threading.Event()
    sent: list[int] = []
    sender.ask(lambda: (go_on.wait(60), None)[1])
    for number in range(1000):
        sender.ask(lambda number=number: sent.append(number))  # type: ignore[misc]
    sender.ask(done.set)
    assert sent == [], "who asks was held up by the first call"
    go_on.set()
    assert done.wait(60)
    assert sent == list(range(1000))
    sender.close()


def test_sender_that_is_closed_drops_what_waits() -> None:
    sender, begun, go_on = Sender(THREADS), threading.Event(), threading.Event()
    sent: list[str] = []
    threads: list[threading.Thread] = []

    def first() -> None:
        threads.append(threading.current_thread())
        begun.set()
        go_on.wait(60)

    sender.ask(first)
    sender.ask(lambda: sent.append("late"))
    assert begun.wait(60)
    sender.close()
    go_on.set()
    threads[0].join(60)
    assert not threads[0].is_alive()
    assert sent == []
