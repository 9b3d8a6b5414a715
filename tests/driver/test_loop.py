"""Does the real loop with real members, short of Ray and TensorFlow, end every disturbed run with
the state of an undisturbed one?
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.actions import Outcome
from orchestrator.decide.budgets import Budgets
from orchestrator.driver.inbox import Inbox, Interrupted
from orchestrator.driver.loop import Loop
from orchestrator.driver.observer import Observers
from orchestrator.errors import UserCodeError
from orchestrator.workers.orders import CheckpointFiles
from tests.fakes.group import Exchange, FakeFleet, FakeState, FakeStorageThread, FakeTools
from tests.simulation.world import policy

START = CheckpointFiles(0, 0, "start", ())


class Play:
    """One run. ``on`` has something done when an event is written down (or at a step, under the
    name ``step``).
    """

    def __init__(self, ends_at: int | None = None, **shape: Any) -> None:
        self.inbox, self.exchange = Inbox(), Exchange()
        self.store = {"start": FakeState(0, np.zeros(8))}
        self.fleet = FakeFleet(self.inbox.put, lambda worker: self.tools(worker))
        self.storage_thread = FakeStorageThread(self.inbox.put, START)
        self.ends_at = ends_at
        self.prepare: Callable[[str, FakeTools], None] = lambda worker, tools: None
        self.rules = policy(**{"until": 60, "save_steps": 20, **shape})
        run, self.actions = machine.begin(
            self.rules, ev.Found(0, 0), None, Budgets(50), 0, time.monotonic()
        )
        self.handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {}
        self.loop = Loop(
            run, self.fleet, self.storage_thread, Observers([self]), self.inbox, 1, START
        )

    def tools(self, worker: str) -> FakeTools:
        tools = FakeTools(self.exchange, self.store, self.ends_at)
        self.prepare(worker, tools)
        return tools

    def event(self, event: Mapping[str, Any]) -> None:
        handler = self.handlers.pop(str(event["event"]), None)
        if handler is not None:
            handler(event)

    def progress(self, progress: Any) -> None:
        """Nothing is shown."""

    def on(self, event: str, handler: Callable[[Mapping[str, Any]], None]) -> Play:
        self.handlers[event] = handler
        return self

    def at_step(self, rank: int, step: int, what: Callable[[str], None]) -> Play:
        """Have ``what(worker)`` done in the worker's own thread before it takes the step after
        ``step``, once.
        """
        done = threading.Event()

        def prepare(worker: str, tools: FakeTools) -> None:
            def before_step(now: int) -> None:
                if (
                    now == step
                    and not done.is_set()
                    and self.fleet.members[worker].report()["rank"] == rank
                ):
                    done.set()
                    what(worker)

            tools.before_step = before_step

        self.prepare = prepare
        self.done = done
        return self

    def run(self) -> Any:
        return self.loop.play(self.actions)

    def final(self) -> np.ndarray:
        return self.store[
            f"a0001-g{self.storage_thread.committed[-1].generation:04d}/model-{self.storage_thread.committed[-1].step}"
        ].values

    def named(self, name: str) -> list[Mapping[str, Any]]:
        return [event for event in self.storage_thread.events if event["event"] == name]


@pytest.fixture
def start() -> Iterator[Callable[..., Play]]:
    plays: list[Play] = []

    def begin(**shape: Any) -> Play:
        plays.append(Play(**shape))
        return plays[-1]

    yield begin
    for play in plays:
        play.fleet.close()


def undisturbed(steps: int, world_size: int = 2) -> np.ndarray:
    values = np.zeros(8)
    for step in range(steps):
        batches = [
            np.random.default_rng(step * world_size + rank).normal(size=8)
            for rank in range(world_size)
        ]
        values = values * 0.9 + np.sum(batches, axis=0) / world_size
    return values


def test_loop_undisturbed_run_saves_at_the_agreed_steps(start: Callable[..., Play]) -> None:
    play = start()
    assert play.run().outcome is Outcome.DONE
    assert [written.step for written in play.storage_thread.committed] == [20, 40, 60]
    assert [written.position for written in play.storage_thread.committed] == [40, 80, 120]
    np.testing.assert_array_equal(play.final(), undisturbed(60))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_loop_killed_member_loses_no_step(rank: int, start: Callable[..., Play]) -> None:
    play = start(count=3, standby=1)
    play.at_step(rank, 33, lambda worker: play.fleet.kill(worker))
    assert play.run().outcome is Outcome.DONE
    assert play.done.is_set()
    assert [event["steps_redone"] for event in play.named("incident")] == [0]
    np.testing.assert_array_equal(play.final(), undisturbed(60, 3))


def test_loop_killed_writer_of_a_save_saves_again(start: Callable[..., Play]) -> None:
    play = start(standby=1)
    play.on("save_agreed", lambda event: play.fleet.kill(event["writer"]))
    assert play.run().outcome is Outcome.DONE
    assert play.named("save_lost") or play.named("save_cancelled")
    np.testing.assert_array_equal(play.final(), undisturbed(60))


def test_loop_single_worker_goes_back_to_its_checkpoint(start: Callable[..., Play]) -> None:
    play = start(count=1)
    play.at_step(0, 45, lambda worker: play.fleet.kill(worker))
    assert play.run().outcome is Outcome.DONE
    assert play.named("finding_checkpoint")
    np.testing.assert_array_equal(play.final(), undisturbed(60, 1))


def test_loop_end_of_one_ranks_data_is_the_end_for_all(start: Callable[..., Play]) -> None:
    play = start(ends_at=61)  # rank 1 has no batch for step 31
    finish = play.run()
    assert finish.outcome is Outcome.END_OF_DATA
    assert finish.step == 30
    assert play.storage_thread.committed[-1].step == 30
    np.testing.assert_array_equal(play.final(), undisturbed(30))


def test_loop_user_error_stops_with_its_traceback_after_a_last_save(
    start: Callable[..., Play],
) -> None:
    play = start()

    def fail(worker: str) -> None:
        raise UserCodeError("the graph raised", details={"traceback": "line 7"})

    play.at_step(1, 25, fail)
    finish = play.run()
    assert finish.outcome is Outcome.FAILED
    assert finish.error is not None
    assert finish.error["details"]["traceback"] == "line 7"
    assert play.storage_thread.committed[-1].step == 25
    np.testing.assert_array_equal(play.final(), undisturbed(25))


def test_loop_stop_saves_at_the_boundary(start: Callable[..., Play]) -> None:
    play = start(until=10**6)
    play.on("save_committed", lambda event: None)
    play.on("save_agreed", lambda event: play.inbox.put(ev.StopAsked(ev.StopCause.SIGTERM, 60.0)))
    finish = play.run()
    assert (finish.outcome, finish.stop_cause) == (Outcome.STOPPED, "SIGTERM")
    assert play.storage_thread.committed[-1].step == finish.step
    np.testing.assert_array_equal(play.final(), undisturbed(finish.step))


def test_loop_second_interrupt_ends_at_once(start: Callable[..., Play]) -> None:
    play = start(until=10**6)
    play.on("training", lambda event: play.inbox.put(Interrupted()))
    with pytest.raises(Interrupted):
        play.run()


def test_loop_saves_that_keep_failing_stop_the_run(start: Callable[..., Play]) -> None:
    play = start(until=10**6, save_steps=2)
    play.storage_thread.refuse = lambda step: "503"
    finish = play.run()
    assert finish.outcome is Outcome.FAILED
    assert len(play.named("save_failed")) == play.rules.saving.max_failed
    assert "5 saves failed" in finish.reason


def test_loop_state_that_isnt_finite_is_never_committed(start: Callable[..., Play]) -> None:
    play = start()
    play.store["start"] = FakeState(0, np.full(8, np.nan))
    finish = play.run()
    assert finish.outcome is Outcome.FAILED
    assert finish.error is not None
    assert finish.error["kind"] == "NonFinite"
    assert not play.storage_thread.committed


def test_loop_ranks_that_differ_are_made_equal_before_anything_is_committed(
    start: Callable[..., Play],
) -> None:
    play = start()

    def flip(worker: str) -> None:
        trainer: Any = play.fleet.members[worker]._mailbox.trainer
        trainer.current = FakeState(trainer.current.step, trainer.current.values + 1.0)

    play.at_step(1, 7, flip)
    assert play.run().outcome is Outcome.DONE
    assert [event["kind"] for event in play.named("incident")] == ["divergence"]
    assert play.storage_thread.committed[-1].step == 60
    np.testing.assert_array_equal(play.final(), undisturbed(60))


def test_loop_fenced_driver_commits_nothing_more(start: Callable[..., Play]) -> None:
    play = start(until=10**6)
    play.on(
        "training",
        lambda event: play.inbox.put(
            ev.Fenced({"kind": "LeaseLost", "message": "attempt 2 took over"})
        ),
    )
    finish = play.run()
    assert finish.outcome is Outcome.FAILED
    assert "attempt 2" in finish.reason
    assert not play.storage_thread.committed


def test_loop_planned_leave_of_a_member_costs_no_incident(start: Callable[..., Play]) -> None:
    play = start(standby=1, until=200)
    play.on("save_agreed", lambda event: play.inbox.put(ev.Notice(event["writer"], "SIGTERM")))
    assert play.run().outcome is Outcome.DONE
    assert play.named("worker_notice")
    assert not play.named("incident")
    np.testing.assert_array_equal(play.final(), undisturbed(200))


def test_loop_takes_generations_over_before_committing_for_them(start: Callable[..., Play]) -> None:
    play = start(standby=1)
    play.at_step(0, 33, lambda worker: play.fleet.kill(worker))
    play.run()
    (first, started), (second, resumed) = play.storage_thread.takeovers
    assert (first, started, second) == (1, 0, 2)
    assert resumed in (33, 34), "the survivor's step, finished or not"


@pytest.mark.slow
def test_loop_two_hundred_deaths_in_one_run_lose_no_step_and_leave_nothing_behind(
    start: Callable[..., Play],
) -> None:
    """The real loop and real members, many times faster than with Ray and TensorFlow;
    ``tests/chaos`` has those.
    """
    play = start(standby=1, until=10**6)
    play.loop.run = replace(play.loop.run, budgets=Budgets(10_000))
    draw = random.Random(7)
    deaths = 200
    kept: list[int] = []

    def strike(_event: Mapping[str, Any]) -> None:
        """Whenever a step was taken after the last death: kill a member, or stop when it was the
        last time.
        """
        kept.append(len(play.loop.run.workers))
        if len(kept) > deaths:
            play.inbox.put(ev.StopAsked(ev.StopCause.SIGTERM, 60.0))
            return
        play.on("incident", strike)
        victim = draw.choice(play.loop.run.members)
        threading.Thread(target=play.fleet.kill, args=(victim,)).start()

    play.on("training", strike)
    finish = play.run()
    assert finish.outcome is Outcome.STOPPED
    lost = [event for event in play.named("worker_lost") if event["rank"] is not None]
    assert len(lost) == deaths
    assert sum(event["steps_redone"] for event in play.named("incident")) == 0
    assert not play.named("finding_checkpoint")
    assert max(kept) <= 5, "the driver keeps the dead in mind"
    np.testing.assert_array_equal(play.final(), undisturbed(finish.step))
