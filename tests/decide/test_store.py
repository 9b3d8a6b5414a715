"""Does what the store answers, or doesn't, lead to where the run goes on from?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.actions import Outcome
from orchestrator.decide.budgets import backoff_s
from orchestrator.decide.facts import store
from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Ending, Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 1024.0
ERROR = {"kind": "StorageUnavailable", "message": "503"}


def finding(**facts: Any) -> Run:
    """The store was asked for a checkpoint."""
    run = Driver(count=2).training("w0001", "w0002").run
    return replace(run, **{"phase": Phase.FINDING, "generation": 4, **facts})


def found(run: Run, event: ev.Found) -> Turn:
    turn = Turn(run, NOW_S)
    store.on_found(turn, event)
    return turn


def noted(turn: Turn) -> list[dict[str, Any]]:
    return [item.event.record() for item in turn.actions if isinstance(item, act.Note)]


def test_checkpoint_that_is_found_is_where_the_run_goes_on() -> None:
    event = ev.Found(7, 14, detail="m-7 is whole")
    turn = found(finding(store_down_s=1.0), event)
    assert (turn.run.origin, turn.run.store_down_s) == (event, None)
    assert (turn.run.phase, turn.run.since_s) == (Phase.GATHERING, NOW_S)
    assert noted(turn) == [
        {"event": "checkpoint_found", "step": 7, "position": 14, "reason": "m-7 is whole"}
    ]
    late = finding(phase=Phase.GATHERING)
    assert found(late, event).run is late


def test_store_that_has_none_ends_the_run_with_its_error_or_one_that_says_so() -> None:
    turn = found(finding(), ev.Found(None, 0, detail="all damaged", error=ERROR))
    how = turn.run.ending
    assert how is not None
    assert (how.outcome, how.reason, how.error, how.at_once) == (
        Outcome.FAILED,
        "all damaged",
        ERROR,
        True,
    )
    how = found(finding(), ev.Found(None, 0)).run.ending
    assert how is not None
    assert how.reason == "no good checkpoint"
    how = found(finding(), ev.Found(None, 0, detail="all damaged")).run.ending
    assert how is not None
    assert how.error is not None
    assert how.error["kind"] == "CorruptCheckpoint"
    assert how.error["message"] == "no good checkpoint is left to go on from: all damaged"
    assert how.error["remedy"] == "Name another source"


def down(**facts: Any) -> Turn:
    return found(finding(**facts), ev.Found(None, 0, detail="503", passing=True))


def test_store_that_does_not_answer_is_waited_for_and_that_is_no_fruitless_formation() -> None:
    turn = down(fruitless=3)
    assert (turn.run.store_down_s, turn.run.fruitless) == (NOW_S, 0)
    assert (turn.run.join_failures, turn.run.retry_s) == (1, NOW_S)
    assert not noted(turn), "it's asked again at once"
    assert turn.run.phase is Phase.FINDING
    again = down(store_down_s=NOW_S - 9.0, join_failures=1)
    assert (again.run.store_down_s, again.run.ending) == (NOW_S - 9.0, None)
    wait_s = backoff_s(2, "formation 4")
    assert again.run.retry_s == NOW_S + wait_s
    assert noted(again) == [{"event": "backing_off", "seconds": round(wait_s, 3), "reason": "503"}]


def test_store_that_stays_away_ends_the_run_after_the_time_that_it_waits() -> None:
    wait_s = finding().policy.wait_s
    assert down(store_down_s=NOW_S - wait_s).run.ending is None
    how = down(store_down_s=NOW_S - wait_s - 1).run.ending
    assert how is not None
    assert how.reason == f"the store hasn't answered for {wait_s + 1:.0f} s: 503"
    assert how.error is not None
    assert how.error["kind"] == "StorageUnavailable"
    assert how.error["message"] == how.reason
    assert how.error["remedy"] == "The same command goes on when the store is back"
    earlier = Ending(Outcome.STOPPED, "stopped")
    assert down(store_down_s=0.0, ending=earlier).run.ending == earlier
    own = found(
        finding(store_down_s=0.0), ev.Found(None, 0, detail="503", passing=True, error=ERROR)
    )
    assert own.run.ending is not None
    assert own.run.ending.error == ERROR


def accused(**facts: Any) -> Turn:
    turn = Turn(finding(**facts), NOW_S)
    store.accuse(turn, "a checksum differs")
    return turn


def test_checkpoint_is_bad_that_two_formations_found_damaged() -> None:
    origin = ev.Found(7, 14, label="m-7")
    first = accused(origin=origin)
    assert (first.run.origin, first.run.accused, first.run.bad) == (None, "m-7", {})
    assert not first.actions
    other = accused(origin=origin, accused="m-5", bad={"m-9": "old"})
    assert (other.run.accused, other.run.bad) == ("m-7", {"m-9": "old"})
    second = accused(origin=origin, accused="m-7", bad={"m-9": "old"})
    assert second.run.bad == {"m-9": "old", "m-7": "a checksum differs"}
    assert noted(second) == [
        {
            "event": "checkpoint_bad",
            "checkpoint": "m-7",
            "step": 7,
            "reason": "a checksum differs",
        }
    ]
    assert not accused(origin=None, accused="").actions
    nameless = accused(origin=ev.Found(7, 14), accused="")
    assert not nameless.run.bad
