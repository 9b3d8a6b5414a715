"""Does a run with real members get on while copies of the state take far longer than any bound on a
step?
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from orchestrator.decide.actions import Outcome
from orchestrator.decide.rules import deadlines
from tests.driver.test_loop import Play, undisturbed
from tests.fakes.group import FakeTools

pytestmark = [pytest.mark.slow, pytest.mark.turns(3)]  # real waits of twice a bound

BOUND_S = 2.0
"""What a step, and stopping between two steps, is allowed here."""
COPY_S = 4.5
COUNTING = threading.Lock()


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Play]]:
    monkeypatch.setattr(deadlines, "GATHER_S", BOUND_S)
    made: list[Play] = []

    def begin(**shape: Any) -> Play:
        made.append(Play(hang_floor_s=BOUND_S, **shape))
        return made[-1]

    yield begin
    for one in made:
        one.fleet.close()


def slowly(
    tools: FakeTools,
    method: str,
    copies: list[str],
    *,
    moving: bool = True,
    at_most: int | None = None,
) -> None:
    """Let a copy of the state take COPY_S, bytes moving all the while; ``at_most`` so many of those
    that share ``copies``.
    """
    load = tools.load

    def loaded() -> Any:
        trainer = load()
        copy = getattr(trainer, method)

        def slow_copy() -> Any:
            with COUNTING:
                copies.append(method)
                slow = at_most is None or len(copies) <= at_most
            began_s = time.monotonic()
            while slow and time.monotonic() - began_s < COPY_S:
                tools.moved += moving
                threading.Event().wait(0.05)
            return copy()

        setattr(trainer, method, slow_copy)
        return trainer

    tools.load = loaded  # type: ignore[method-assign]


def test_loop_copies_for_saves_that_take_longer_than_any_step_disturb_nothing(
    play: Callable[..., Play],
) -> None:
    """4 to 5 GB a worker couldn't be saved: the step was broken off after 5 s and all were killed
    after 10, again and again.
    """
    one = play(until=40, save_steps=20)
    copies: list[str] = []
    one.prepare = lambda worker, tools: slowly(tools, "state_for_save", copies)
    assert one.run().outcome is Outcome.DONE
    assert len(copies) == 4, "two saves on two ranks"
    assert not one.named("step_broken")
    assert not one.named("worker_lost")
    assert [written.step for written in one.storage_thread.committed] == [20, 40]
    np.testing.assert_array_equal(one.final(), undisturbed(40))


def test_loop_survivor_that_copies_its_state_while_the_group_gathers_is_not_killed_for_it(
    play: Callable[..., Play],
) -> None:
    one = play(until=40, standby=1)
    copies: list[str] = []
    one.at_step(1, 25, one.fleet.kill)
    kill_at_25 = one.prepare

    def prepare(worker: str, tools: FakeTools) -> None:
        kill_at_25(worker, tools)
        slowly(tools, "state", copies)

    one.prepare = prepare
    assert one.run().outcome is Outcome.DONE
    assert one.done.is_set()
    assert copies
    assert [event["cause"] for event in one.named("worker_lost")] == ["died"]
    assert [event["steps_redone"] for event in one.named("incident")] == [0]
    np.testing.assert_array_equal(one.final(), undisturbed(40))


def test_loop_member_whose_copy_stands_still_is_killed_for_it(
    play: Callable[..., Play], monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.decide import progress
    from orchestrator.decide.events import Doing

    monkeypatch.setitem(progress.STILL_S, Doing.COPYING, BOUND_S)
    one = play(until=40, save_steps=20, standby=1)

    copies: list[str] = []
    # Whoever copies first stands still: which two of the three workers train is the group's to say
    one.prepare = lambda worker, tools: slowly(
        tools, "state_for_save", copies, moving=False, at_most=1
    )
    assert one.run().outcome is Outcome.DONE
    assert len(copies) > 1
    assert [event["cause"] for event in one.named("worker_lost")] == ["hung"]
    np.testing.assert_array_equal(one.final(), undisturbed(40))
