"""Does each end say why, what to do, and until when its last save may take?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import endings
from orchestrator.decide.actions import Outcome
from orchestrator.decide.endings import LAST_SAVE_S
from orchestrator.decide.run import Ending
from orchestrator.decide.turn import Turn
from orchestrator.errors import RecoveryExhausted, StorageUnavailable
from orchestrator.journal.run_events import DeadlinePassed, GaveUp
from tests.decide.situation import Driver

NOW_S = 50.0
ASKED = Ending(Outcome.STOPPED, "asked to", 90.0, "SIGTERM")
DATA = Ending(Outcome.END_OF_DATA, "the input ended", 90.0, last_step=12)


def turn_of(committed: int | None = None, **fields: Any) -> Turn:
    run = Driver(count=2).run
    run = replace(run, saves=replace(run.saves, committed=committed), **fields)
    return Turn(run, NOW_S)


LATE = DeadlinePassed(reason="no time is left for the last save")


@pytest.mark.parametrize(
    ("how", "committed"),
    [(ASKED, None), (DATA, 12), (DATA, 13), (replace(DATA, instead=ASKED), 12)],
)
def test_end_that_is_reached_without_a_last_save_stays_it(
    how: Ending, committed: int | None
) -> None:
    turn = turn_of(committed)
    endings.out_of_time(turn, how)
    assert turn.run.ending == replace(how, at_once=True)
    assert turn.actions == [act.Note(LATE)]


@pytest.mark.parametrize("committed", [None, 11])
def test_end_of_data_that_is_not_reached_is_what_was_asked_for_or_a_failure(
    committed: int | None,
) -> None:
    turn = turn_of(committed)
    endings.out_of_time(turn, replace(DATA, instead=ASKED))
    assert turn.run.ending == replace(ASKED, at_once=True)
    turn = turn_of(committed)
    endings.out_of_time(turn, DATA)
    reason = "the input ended, and no save of that step was made in time"
    remedy = "Check the output; the same command goes on from the last good checkpoint"
    assert turn.run.ending == Ending(
        Outcome.FAILED,
        reason,
        NOW_S + LAST_SAVE_S,
        error=StorageUnavailable(reason, remedy=remedy).as_dict(),
        at_once=True,
    )


@pytest.mark.parametrize(
    ("last_cause", "told"),
    [("", "too many losses"), ("w0002 hung", "too many losses; the last time: w0002 hung")],
)
def test_run_that_gives_up_recovering_says_what_went_wrong_last(last_cause: str, told: str) -> None:
    turn = turn_of(last_cause=last_cause)
    endings.give_up_recovering(turn, "too many losses")
    remedy = "See `tfresume report`; the same command goes on from the last checkpoint"
    error = RecoveryExhausted(told, remedy=remedy).as_dict()
    assert turn.run.ending == Ending(Outcome.FAILED, told, NOW_S + LAST_SAVE_S, error=error)
    assert turn.actions == [act.Note(GaveUp(reason=told))]
