"""Is what comes back from workers told once, and with the right cause?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from ray import exceptions as rex

from orchestrator.decide import events as ev
from orchestrator.decide.signs_of_life import PULSE_S
from orchestrator.errors import LeaseLost
from orchestrator.workers.calls import ASK_AGAIN_S, WITHOUT_A_WORD, Calls, why_gone


class Actor:
    """Stands for Ray's handle: each call gives a future, which a test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], Future[Any]]] = []
        self.unsent: list[Exception] = []

    def __getattr__(self, method: str) -> Any:
        def remote(*arguments: Any) -> Any:
            if self.unsent:
                raise self.unsent.pop()
            future: Future[Any] = Future()
            self.asked.append((method, arguments, future))
            return SimpleNamespace(future=lambda: future)

        return SimpleNamespace(remote=remote)

    def answer(self, result: Any = None, error: BaseException | None = None) -> None:
        """Answer what was asked last."""
        future = self.asked[-1][2]
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


class Bench:
    """Calls of one worker's actor, with what was told and who has left."""

    def __init__(self) -> None:
        self.told: list[ev.Event] = []
        self.left: list[str] = []
        self.arrived: list[tuple[Any, ...]] = []
        placement: Any = SimpleNamespace(
            free=self.left.append, arrived=lambda *told: self.arrived.append(told)
        )
        self.later: list[Callable[[], None]] = []
        self.delays_s: list[float] = []
        scheduler: Any = SimpleNamespace(later=self._later, line=lambda: None)
        self.calls, self.actor = Calls(3, placement, self.told.append, scheduler), Actor()
        self.calls._sender = SimpleNamespace(ask=lambda send: send())  # type: ignore[assignment]
        self.calls.expect("w1")
        self.calls.listen("w1", self.actor)

    def _later(self, delay_s: float, work: Callable[[], None]) -> None:
        self.delays_s.append(delay_s)
        self.later.append(work)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def died(detail: str = "") -> rex.RayActorError:
    return rex.RayActorError(error_msg=detail)


def test_events_are_told_and_the_next_are_asked_for_with_the_attempts_number(bench: Bench) -> None:
    notice = ev.Notice("w1", "SIGTERM")
    bench.actor.answer((7, [notice]))
    assert bench.told == [notice]
    assert [(method, arguments) for method, arguments, _ in bench.actor.asked] == [
        ("poll", (3, 0, PULSE_S)),
        ("poll", (3, 7, PULSE_S)),
    ]


def test_worker_that_is_warm_has_arrived_where_it_says(bench: Bench) -> None:
    warm = ev.Warm("w1", "10.0.0.1/1", 7, "10.0.0.1:80", ("2", "3"))
    bench.actor.answer((1, [warm]))
    assert bench.told == [warm]
    assert bench.arrived == [("w1", "10.0.0.1/1", ("2", "3"))]


def test_worker_that_cannot_be_reached_is_asked_for_the_same_events_again(bench: Bench) -> None:
    bench.actor.answer((7, []))
    bench.actor.answer(error=rex.ActorUnavailableError("no connection", None))
    assert bench.delays_s == [ASK_AGAIN_S]
    bench.later.pop()()
    assert [arguments for _, arguments, _ in bench.actor.asked] == [
        (3, 0, PULSE_S),
        (3, 7, PULSE_S),
        (3, 7, PULSE_S),
    ]
    bench.actor.answer(error=died())
    assert bench.told == [ev.Gone("w1", ev.Cause.DIED, WITHOUT_A_WORD)]


def test_death_is_told_once_and_its_place_is_free(bench: Bench) -> None:
    bench.calls.call("w1", "quiesce", 2)
    called, polled = bench.actor.asked[1][2], bench.actor.asked[0][2]
    polled.set_exception(died())
    called.set_exception(died())
    assert bench.told == [ev.Gone("w1", ev.Cause.DIED, WITHOUT_A_WORD)]
    assert bench.left == ["w1"]
    assert bench.calls.is_gone("w1")
    bench.calls.call("w1", "quiesce", 3)
    assert len(bench.actor.asked) == 2, "nobody is called who is gone"


def test_death_that_the_driver_asked_for_is_told_with_its_cause(bench: Bench) -> None:
    assert bench.calls.ends("w1", ev.Cause.HUNG, "no sign of life") is bench.actor
    bench.actor.answer(error=died("node died"))
    assert bench.told == [ev.Gone("w1", ev.Cause.HUNG, "no sign of life")]


def test_end_of_a_worker_without_a_process_is_told_at_once(bench: Bench) -> None:
    bench.calls.expect("w2")
    for _ in range(2):
        assert bench.calls.ends("w2", ev.Cause.RELEASED, "not needed") is None
    assert bench.told == [ev.Gone("w2", ev.Cause.RELEASED, "not needed")]
    assert not bench.calls.listen("w2", bench.actor), "it was started after all"
    assert bench.told == [ev.Gone("w2", ev.Cause.RELEASED, "not needed")]


def test_worker_whose_answers_fail_is_ended_and_its_place_is_free(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr("ray.kill", lambda actor, no_restart: killed.append((actor, no_restart)))
    bench.actor.answer(error=ValueError("no event"))
    assert killed == [(bench.actor, True)]
    assert bench.told == [ev.Gone("w1", ev.Cause.ERROR, "ValueError: no event")]
    assert bench.left == ["w1"]
    bench.calls.wait_until_gone(["w1"], 60.0)


def test_nothing_is_kept_of_workers_that_are_gone(bench: Bench) -> None:
    def kept() -> int:
        return sum(len(vars(bench.calls)[name]) for name in ("_awaited", "_ending", "actors"))

    before = kept()
    for number in range(1000):
        ident, actor = f"w{number + 2}", Actor()
        bench.calls.expect(ident)
        if number % 3:
            bench.calls.listen(ident, actor)
        if number % 2:
            bench.calls.ends(ident, ev.Cause.HUNG, "no sign of life")
        if number % 3:
            actor.answer(error=died())
        elif not number % 2:
            bench.calls.not_started(ident, ValueError("no room"))
        assert bench.calls.is_gone(ident)
    assert len(bench.told) == 1000
    assert kept() == before


@pytest.mark.parametrize(
    "text",
    [
        "The actor died because its node has died.",
        "The node died unexpectedly.",
        "The actor died: NODE_DIED",
    ],
)
def test_lost_node_is_known_by_rays_text(text: str, bench: Bench) -> None:
    bench.actor.answer(error=died(text))
    assert bench.told == [ev.Gone("w1", ev.Cause.NODE, "its node is gone")]


def test_preempted_node_is_known_by_what_ray_says_beside_its_text(bench: Bench) -> None:
    bench.actor.answer(error=rex.RayActorError(preempted=True))
    assert bench.told == [ev.Gone("w1", ev.Cause.PREEMPTED, "its node was preempted")]


def test_death_of_which_ray_says_nothing_is_one_without_a_word() -> None:
    gone = ev.Gone("w1", ev.Cause.DIED, WITHOUT_A_WORD)
    assert why_gone("w1", Exception("an error that isn't the actor's")) == gone


RAY_SAYS = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "


@pytest.mark.parametrize(
    ("text", "reason", "exit_code"),
    [
        ("Worker exits unexpectedly. Worker exits with an exit code 4.", "exit code 4", 4),
        (
            "Worker exits with an exit code 1. The process receives a SIGTERM.",
            "killed by SIGTERM",
            -15,
        ),
        ("Worker unexpectedly exits with a connection error code 2.", WITHOUT_A_WORD, None),
        ("Task was killed by the OOM killer of its container", WITHOUT_A_WORD, None),
        (
            "Task was killed by the OOM killer due to the node running low on memory",
            "out of memory: Ray ended it, since its node ran low",
            -9,
        ),
    ],
)
def test_death_is_told_with_the_exit_code_or_signal_that_ray_knows(
    bench: Bench, text: str, reason: str, exit_code: int | None
) -> None:
    """The texts are Ray 2.60's own, from processes that ended so."""
    bench.actor.answer(error=died(RAY_SAYS + text))
    assert bench.told == [ev.Gone("w1", ev.Cause.DIED, reason, exit_code=exit_code)]


def test_call_that_does_not_reach_a_worker_for_the_moment_is_made_again(bench: Bench) -> None:
    """A grant that got lost left its group standing until that was taken for a hang."""
    bench.calls.call("w1", "grant", "order")
    for _ in range(2):
        bench.actor.answer(error=rex.ActorUnavailableError("no connection", None))
        bench.later.pop()()
    bench.actor.answer()
    assert [arguments for method, arguments, _ in bench.actor.asked if method == "grant"] == [
        (3, "order")
    ] * 3
    assert bench.told == []
    assert bench.later == []
    assert bench.delays_s == [ASK_AGAIN_S] * 2


def test_call_that_cannot_even_be_sent_for_the_moment_is_made_again(bench: Bench) -> None:
    bench.actor.unsent.append(rex.ActorUnavailableError("no connection", None))
    bench.calls.call("w1", "grant", "order")
    assert [method for method, _, _ in bench.actor.asked] == ["poll"]
    bench.later.pop()()
    assert [(method, arguments) for method, arguments, _ in bench.actor.asked[1:]] == [
        ("grant", (3, "order"))
    ]
    assert (bench.told, bench.actor.unsent) == ([], [])


def test_call_that_did_not_reach_a_worker_is_not_made_again_after_the_end(bench: Bench) -> None:
    bench.calls.call("w1", "grant", "order")
    bench.actor.answer(error=rex.ActorUnavailableError("no connection", None))
    bench.calls.closed = True
    bench.later.pop()()
    assert len(bench.actor.asked) == 2, "the poll and the grant"


def test_order_that_cannot_be_delivered_keeps_the_group_from_forming(bench: Bench) -> None:
    bench.calls.call("w1", "join", "order", None, generation=4)
    bench.actor.answer(error=ValueError("no state\nin two lines"))
    assert bench.told == [ev.JoinFailed("w1", 4, "ValueError: no state")]


def test_order_that_could_be_delivered_is_no_failure_of_its_group(bench: Bench) -> None:
    bench.calls.call("w1", "join", "order", None, generation=4)
    bench.actor.answer()
    assert bench.told == []


def test_worker_that_dies_as_it_joins_keeps_the_group_from_forming(bench: Bench) -> None:
    bench.calls.call("w1", "join", "order", None, generation=4)
    bench.actor.answer(error=died())
    assert bench.told == [ev.JoinFailed("w1", 4, "RayActorError: ")]
    bench.calls.call("w1", "break_step", generation=4)
    bench.actor.answer(error=died())
    assert len(bench.told) == 1, "the poll tells of its death"


LOST = LeaseLost("attempt 4 commands it", remedy="Nothing to do")


@pytest.mark.parametrize("method", ["poll", "grant"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_worker_of_a_newer_driver_fences_this_one(method: str, wrapped: bool, bench: Bench) -> None:
    error: Exception = LOST
    if wrapped or method == "poll":  # as Ray brings it from a worker
        error = Exception()
        error.cause = LOST  # type: ignore[attr-defined]
    if method == "grant":
        bench.calls.call("w1", "grant", "order")
    bench.actor.answer(error=error)
    assert bench.told == [ev.Fenced(LOST.as_dict())]
    assert bench.later == []


def test_worker_that_stays_is_waited_for_no_longer_than_is_said(bench: Bench) -> None:
    bench.calls.wait_until_gone(["w1"], 0.0)
    assert not bench.calls.is_gone("w1")


def test_nothing_is_told_any_more_once_it_is_closed(bench: Bench) -> None:
    bench.calls.closed = True
    bench.actor.answer(error=died())
    assert bench.told == []
    bench.calls.wait_until_gone(["w1"], 60.0)


def test_call_that_cannot_be_sent_fails_like_one_that_was_not_received(bench: Bench) -> None:
    def unsent(*_: Any) -> None:
        raise RuntimeError("not connected")

    bench.calls.actors["w1"] = SimpleNamespace(join=SimpleNamespace(remote=unsent))
    bench.calls.call("w1", "join", generation=4)
    assert bench.told == [ev.JoinFailed("w1", 4, "RuntimeError: not connected")]
