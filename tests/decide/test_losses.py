"""What does a loss cost, and does it end the run?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import losses
from orchestrator.decide.budgets import Entry
from orchestrator.decide.causes import Cause
from orchestrator.decide.events import Gone
from orchestrator.decide.recovery import Streak
from orchestrator.decide.roster import Roster, Stage, Worker
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver


def turn_of(*workers: Worker, count: int = 1, standby: int = 0, **fields: Any) -> Turn:
    run = Driver(count=count, standby=standby).run
    fields = {"step": 11, "position": 30, "workers": Roster(workers), **fields}
    return Turn(replace(run, **fields), 50.0)


def worker(ident: str, stage: Stage) -> Worker:
    return Worker(ident, stage, 0.0, 0.0, node="n1")


MEMBER = worker("w0001", Stage.MEMBER)


def test_losses_that_come_together_are_one_failure_at_the_step_where_the_group_is() -> None:
    turn = turn_of(failures=2)
    losses.pay(turn, MEMBER, Gone("w0001", Cause.DIED), begun=True)
    assert turn.run.streak == Streak("died:", (11, 30), 1)
    assert turn.run.failures == 3
    assert turn.run.budgets.entries == (Entry(Cause.DIED, "n1", 50.0),)
    turn.now_s += 1.0
    losses.pay(turn, worker("w0002", Stage.MEMBER), Gone("w0002", Cause.DIED), begun=True)
    assert turn.run.failures == 3
    turn.now_s += 60.0
    losses.pay(turn, worker("w0003", Stage.MEMBER), Gone("w0003", Cause.NODE), begun=True)
    assert turn.run.failures == 4
    assert turn.run.ending is None


SAYS = {"kind": "GraphError", "message": "no such node"}


def failed(number: int) -> tuple[Worker, Gone]:
    """One that ended before it was warm, and says why no other could do better."""
    ident = f"w{number:04}"
    return worker(ident, Stage.STARTING), Gone(ident, Cause.ERROR, "no such node", SAYS)


@pytest.mark.parametrize(("count", "standby", "enough"), [(1, 0, 1), (1, 1, 2), (2, 0, 2)])
def test_run_ends_when_as_many_as_were_started_say_that_they_cannot_load(
    count: int, standby: int, enough: int
) -> None:
    turn = turn_of(count=count, standby=standby)
    for number in range(enough):
        assert turn.run.ending is None
        losses.pay(turn, *failed(number), begun=False)
    assert turn.run.ending is not None
    assert (turn.run.ending.reason, turn.run.ending.error) == ("no such node", SAYS)


@pytest.mark.parametrize("stage", [Stage.WARM, Stage.MEMBER])
def test_run_does_not_end_where_somebody_has_loaded_what_another_could_not(stage: Stage) -> None:
    turn = turn_of(worker("w0009", stage))
    losses.pay(turn, *failed(1), begun=False)
    assert turn.run.ending is None


def test_run_ends_with_an_error_of_a_member_that_no_other_could_avoid() -> None:
    turn = turn_of(MEMBER)
    losses.pay(turn, MEMBER, Gone("w0001", Cause.ERROR, "it is full", SAYS), begun=True)
    assert turn.run.ending is not None
    assert turn.run.ending.reason == "it is full"
