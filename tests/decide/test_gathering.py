"""Are the members asked to stop, and their processes used up, where that's so and nowhere else?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide.incident import DRIVER, Incident
from orchestrator.decide.phases import Phase
from orchestrator.decide.rules import gathering
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver


def training(**shape: Any) -> Run:
    """Two members in the midst of a grant, of which one has stopped; something asks for a stop."""
    driver = Driver(count=2, **shape).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    run = driver.run
    held = run.workers.put(replace(run.workers["w0001"], held=True))
    return replace(run, gather_for="w0003 is gone", workers=held)


def decided(run: Run) -> Turn:
    turn = Turn(run, 64.0)
    gathering.gather(turn)
    return turn


def told(turn: Turn) -> list[dict[str, Any]]:
    return [item.event.record() for item in turn.actions if isinstance(item, act.Note)]


def test_those_that_still_run_are_asked_to_stop_and_the_journal_is_told_why() -> None:
    turn = decided(training())
    assert told(turn) == [
        {"event": "gathering", "reason": "w0003 is gone", "generation": 1, "step": 4}
    ]
    (quiesce,) = [item for item in turn.actions if isinstance(item, act.Quiesce)]
    assert (quiesce.generation, quiesce.workers, quiesce.urgent) == (1, ("w0002",), True)
    assert (turn.run.phase, turn.run.since_s, turn.run.gather_for) == (Phase.GATHERING, 64.0, "")


def test_nobody_is_asked_where_nothing_asks_for_it_or_all_have_stopped() -> None:
    run = training()
    assert not decided(replace(run, gather_for="")).actions
    stopped = run.workers.put(replace(run.workers["w0002"], held=True))
    turn = decided(replace(run, workers=stopped))
    assert turn.run.phase is Phase.GATHERING
    assert not [item for item in turn.actions if isinstance(item, act.Quiesce)]


def broken(kind: str) -> Incident:
    return Incident(kind, None, "", "", 0.0, 0.0, 4, 2, "")


@pytest.mark.parametrize(
    ("facts", "spent"),
    [
        ({}, True),
        ({"incident": broken("died")}, True),
        ({"granted_end": 4}, False),
        ({"granted_end": 4, "incident": broken("died")}, True),
        ({"granted_end": 4, "incident": broken(DRIVER)}, False),
        ({"phase": Phase.FORMING}, False),
    ],
    ids=["in a step", "in a step, lost", "planned", "at the end, lost", "driver", "forming"],
)
def test_processes_of_a_group_that_breaks_are_used_up(facts: dict[str, Any], spent: bool) -> None:
    run = replace(training(in_place=False), **facts)
    turn = decided(run)
    assert [(worker.spent, worker.leaving) for worker in turn.run.workers.values()] == [
        (spent, spent)
    ] * 2
    used = [each for each in told(turn) if each["event"] == "processes_used_up"]
    assert (
        used
        == [
            {
                "event": "processes_used_up",
                "workers": ["w0001", "w0002"],
                "reason": "a group that breaks isn't formed again in its processes",
            }
        ]
        * spent
    )
    assert not any(worker.spent for worker in decided(training()).run.workers.values())


def test_processes_that_are_used_up_are_told_once() -> None:
    turn = Turn(training(in_place=False), 64.0)
    gathering.use_up(turn)
    gathering.use_up(turn)
    assert len(told(turn)) == 1
    one = replace(turn.run.workers["w0002"], spent=False)
    again = Turn(replace(turn.run, workers=turn.run.workers.put(one)), 64.0)
    gathering.use_up(again)
    assert len(told(again)) == 1, "one of them isn't yet"
