"""Does the first reason to end count, and a graver one after it?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.actions import Outcome
from orchestrator.decide.endings import LAST_SAVE_S
from orchestrator.decide.events import StopCause
from orchestrator.decide.facts import ends
from orchestrator.decide.run import Ending, Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 64.0


def training(**facts: Any) -> Run:
    driver = Driver(count=2, standby=1).training("w0001", "w0002").warm("w0003")
    return replace(driver.run, **facts)


def told(run: Run, handler: Any, event: Any) -> Turn:
    turn = Turn(run, NOW_S)
    handler(turn, event)
    return turn


def noted(turn: Turn) -> list[dict[str, Any]]:
    return [item.event.record() for item in turn.actions if isinstance(item, act.Note)]


@pytest.mark.parametrize(
    ("cause", "grace_s", "stop_cause", "hard"),
    [
        (StopCause.SIGTERM, 25.0, "SIGTERM", True),
        (StopCause.REQUEST, 120.0, None, False),
        (StopCause.REQUEST, 0.25, None, False),
        (StopCause.REQUEST, 0.0, None, True),
    ],
)
def test_stop_ends_the_run_within_its_grace(
    cause: StopCause, grace_s: float, stop_cause: str | None, hard: bool
) -> None:
    run = training()
    turn = told(run, ends.on_stop, ev.StopAsked(cause, grace_s))
    assert turn.run.ending == Ending(
        Outcome.STOPPED,
        f"stopped by {cause.value}",
        NOW_S + grace_s,
        stop_cause=stop_cause,
        hard=hard,
    )
    assert noted(turn) == [
        {
            "event": "stopping",
            "reason": cause.value,
            "grace_s": grace_s,
            "boundary": run.granted_end,
        }
    ]


@pytest.mark.parametrize(
    ("deadline_s", "after_s", "hard"),
    [
        (None, NOW_S + 25.0, True),
        (NOW_S + 60.0, NOW_S + 25.0, True),
        (NOW_S + 25.0, NOW_S + 25.0, False),
        (NOW_S + 5.0, NOW_S + 5.0, False),
    ],
)
def test_stop_of_a_run_that_ends_already_makes_that_sooner_and_is_told_no_more(
    deadline_s: float | None, after_s: float, hard: bool
) -> None:
    earlier = Ending(Outcome.END_OF_DATA, "the input ended", deadline_s)
    turn = told(training(ending=earlier), ends.on_stop, ev.StopAsked(StopCause.SIGTERM, 25.0))
    how = turn.run.ending
    assert how is not None
    assert (how.outcome, how.reason) == (Outcome.END_OF_DATA, "the input ended")
    assert (how.deadline_s, how.hard) == (after_s, hard)
    assert how.instead is not None
    assert how.instead.outcome is Outcome.STOPPED
    assert not turn.actions


ERROR = {"kind": "UserError", "message": "division by zero"}


def test_error_of_the_users_code_ends_the_run_with_its_words() -> None:
    turn = told(training(), ends.on_user_failed, ev.UserFailed("w0002", 1, 7, ERROR))
    assert noted(turn)[0] == {
        "event": "user_error",
        "worker": "w0002",
        "rank": 1,
        "step": 7,
        "reason": "division by zero",
    }
    how = turn.run.ending
    assert how is not None
    assert (how.outcome, how.reason, how.error) == (Outcome.FAILED, ERROR["message"], ERROR)
    assert not how.at_once, "the state before it is saved"
    assert turn.run.gather_for == "rank 1: division by zero"
    nameless = told(training(), ends.on_user_failed, ev.UserFailed("w0001", 1, 7, {}))
    assert nameless.run.ending is not None
    assert nameless.run.ending.reason == "the user's code failed"


def test_error_of_the_users_code_is_graver_than_a_stop_and_no_graver_than_an_error() -> None:
    event = ev.UserFailed("w0001", 1, 7, ERROR)
    for outcome, counts in ((Outcome.STOPPED, True), (Outcome.FAILED, False)):
        earlier = Ending(outcome, "earlier")
        how = told(training(ending=earlier), ends.on_user_failed, event).run.ending
        assert how is not None
        assert (how.reason == ERROR["message"]) is counts


def test_end_of_one_ranks_input_is_the_end_of_data() -> None:
    turn = told(training(), ends.on_data_ended, ev.DataEnded("w0002", 1, 7))
    reason = "the input of rank 1 ended after step 7"
    assert noted(turn) == [{"event": "end_of_data", "worker": "w0002", "step": 7, "reason": reason}]
    assert turn.run.ending == Ending(Outcome.END_OF_DATA, reason, NOW_S + LAST_SAVE_S, last_step=7)
    assert turn.run.gather_for == reason
    earlier = Ending(Outcome.STOPPED, "stopped")
    kept = told(training(ending=earlier), ends.on_data_ended, ev.DataEnded("w0002", 1, 7)).run
    assert kept.ending == earlier
    assert kept.gather_for == reason


@pytest.mark.parametrize("about", [("w0001", 2), ("w0003", 1), ("w0009", 1)])
def test_word_of_who_is_no_member_of_this_generation_changes_nothing(
    about: tuple[str, int],
) -> None:
    run = training()
    for handler, event in (
        (ends.on_user_failed, ev.UserFailed(*about, 7, ERROR)),
        (ends.on_data_ended, ev.DataEnded(*about, 7)),
    ):
        turn = told(run, handler, event)
        assert turn.run is run
        assert not turn.actions


def test_driver_that_was_followed_ends_at_once_with_that_error() -> None:
    for error, reason in (({"kind": "LeaseLost", "message": "attempt 2"}, "attempt 2"), ({}, "")):
        how = told(training(), ends.on_fenced, ev.Fenced(error)).run.ending
        assert how is not None
        assert (how.outcome, how.reason, how.error) == (Outcome.FAILED, reason, error)
        assert how.at_once
