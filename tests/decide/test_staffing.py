"""Are the workers started that the run lacks, as soon as that helps, and where?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import budgets
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.causes import Cause
from orchestrator.decide.incident import Incident
from orchestrator.decide.roster import Roster, Stage
from orchestrator.decide.rules import staffing
from orchestrator.decide.rules.staffing import STANDBY_AFTER_S
from orchestrator.decide.run import Ending, Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 64.0


def lacking(count: int = 1, **shape: Any) -> Run:
    """A run that wants so many workers more than the two members that it has."""
    run = Driver(count=2, largest=9, **shape).training("w0001", "w0002").run
    workers = Roster(run.workers[ident] for ident in run.members)
    return replace(run, workers=workers, next_worker=3, target=2 + count)


def decided(run: Run) -> Turn:
    turn = Turn(run, NOW_S)
    staffing.staff(turn)
    return turn


def started(turn: Turn) -> list[act.StartWorker]:
    return [item for item in turn.actions if isinstance(item, act.StartWorker)]


def told(turn: Turn) -> list[dict[str, Any]]:
    return [item.event.record() for item in turn.actions if isinstance(item, act.Note)]


def test_workers_that_are_lacking_are_started_at_once_under_names_of_their_own() -> None:
    turn = decided(lacking(2))
    assert started(turn) == [act.StartWorker("w0003"), act.StartWorker("w0004")]
    assert turn.run.next_worker == 5
    worker = turn.run.workers["w0004"]
    assert (worker.stage, worker.since_s, worker.heard_s, worker.moved_s) == (
        Stage.STARTING,
        NOW_S,
        NOW_S,
        NOW_S,
    )
    assert told(turn)[0] == {
        "event": "worker_start",
        "worker": "w0003",
        "delay_s": 0.0,
        "avoid": [],
        "standby": False,
    }


def test_nobody_is_started_who_is_not_lacking_nor_for_a_run_that_ends() -> None:
    assert not decided(lacking(0)).actions
    how = Ending(act.Outcome.STOPPED, "stopped")
    assert not decided(replace(lacking(), ending=how)).actions


def test_further_workers_beyond_the_target_are_standbys() -> None:
    turn = decided(lacking(1, standby=2))
    assert [item.standby for item in started(turn)] == [False, True, True]


def test_those_that_follow_used_up_processes_are_standbys_until_these_are_gone() -> None:
    run = lacking(1)
    used = run.workers.put(replace(run.workers["w0001"], spent=True))
    assert [item.standby for item in started(decided(replace(run, workers=used)))] == [True]


@pytest.mark.parametrize(
    ("failures", "start_failures"), [(2, 0), (4, 0), (0, 4), (4, 5), (1, 1)], ids=str
)
def test_start_waits_the_longer_the_more_has_failed(failures: int, start_failures: int) -> None:
    run = replace(lacking(), failures=failures, start_failures=start_failures)
    turn = decided(run)
    wait_s = max(budgets.backoff_s(count, "w0003") for count in (failures, start_failures))
    assert [item.delay_s for item in started(turn)] == [wait_s]
    assert turn.run.workers["w0003"].since_s == NOW_S + wait_s
    assert told(turn)[0]["delay_s"] == round(wait_s, 3)


def test_start_that_keeps_failing_waits_for_long_only_where_the_group_goes_on_without() -> None:
    for smallest, longest_s in ((2, 300.0), (9, 30.0)):
        run = replace(lacking(smallest=smallest), start_failures=14)
        (start,) = started(decided(run))
        assert start.delay_s == budgets.backoff_s(14, "w0003", longest_s)


def test_node_that_keeps_failing_is_avoided() -> None:
    spent = Budgets(50)
    for number in range(3):
        spent = spent.spend(Cause.DIED, "bad", 20.0 * number)
    turn = decided(replace(lacking(), budgets=spent))
    assert [item.avoid for item in started(turn)] == [("bad",)]
    assert told(turn)[0]["avoid"] == ["bad"]


def test_first_workers_alone_fetch_the_checkpoint() -> None:
    run = lacking()
    origin = Driver(count=1).run.origin
    for facts, fetches in (
        ({"origin": origin, "started": False}, True),
        ({"origin": origin}, False),
        ({"started": False, "origin": None}, False),
    ):
        assert [item.stage for item in started(decided(replace(run, **facts)))] == [fetches]


def test_room_is_filled_and_told_and_answered_once() -> None:
    turn = decided(replace(lacking(0), room=3))
    assert [item.worker for item in started(turn)] == ["w0003", "w0004", "w0005"]
    assert told(turn)[0] == {"event": "growing", "workers": 3, "free": 3}
    assert turn.run.room == 0
    full = decided(replace(lacking(0, on_loss="shrink"), room=3))
    assert not full.actions
    assert full.run.room == 0


def test_room_and_what_is_lacking_are_started_together() -> None:
    assert len(started(decided(replace(lacking(1), room=2)))) == 3


def test_new_standby_waits_only_where_the_others_make_up_for_a_loss_without_it() -> None:
    lost = Incident("died", 1, "", "w0002", 0.0, 0.0, 4, 2, "")
    run = lacking(0, standby=2)
    warm = replace(run.workers["w0001"], ident="w0003", stage=Stage.WARM, rank=None)
    run = replace(run, incident=lost, workers=run.workers.put(warm))
    for facts, delay_s in (
        ({}, STANDBY_AFTER_S),
        ({"incident": None}, 0.0),
        ({"started": False, "origin": None}, 0.0),
        ({"target": 4}, 0.0),
        ({"target": 3}, STANDBY_AFTER_S),
    ):
        turn = decided(replace(run, next_worker=4, **facts))
        assert {item.delay_s for item in started(turn)} == {delay_s}
    going = run.workers.put(replace(run.workers["w0001"], leaving=True))
    turn = decided(replace(run, next_worker=4, target=3, workers=going))
    assert {item.delay_s for item in started(turn)} == {0.0}
