"""Does a driver begin where its checkpoint is, and take a living group over as it stands?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.doing import Doing
from orchestrator.decide.machine import WorkerReport
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.run import Run
from orchestrator.journal.group_events import WorkersAdopted
from tests.simulation.world import policy

NOW_S = 50.0


@pytest.mark.parametrize(("committed", "own"), [(7, 14), (None, None)])
def test_run_begins_where_its_checkpoint_is(committed: int | None, own: int | None) -> None:
    origin = ev.Found(7, 14)
    run, _ = machine.begin(policy(count=2), origin, committed, Budgets(5), 3, NOW_S, 9)
    assert (run.step, run.highest, run.granted_end) == (7, 7, 7)
    assert (run.position, run.granted_position) == (14, 14)
    assert (run.since_s, run.moved_s, run.generation) == (NOW_S, NOW_S, 3)
    assert (run.saves.last_step, run.saves.committed, run.saves.committed_position) == (
        *(7, committed, own),
    )
    assert "w0009" in run.workers
    fresh, _ = machine.begin(policy(count=2), ev.Found(None, 0), None, Budgets(5), 0, NOW_S)
    assert fresh.step == 0


def report(worker: str, rank: int | None, step: int | None = 158, **told: Any) -> WorkerReport:
    generation = 4 if rank is not None else 0
    found = WorkerReport(
        *(worker, f"n-{worker}", 11, f"{worker}:1", generation, rank, 2, step),
        position=2 * (step or 0),
        granted_end=160,
        held=False,
        joined=True,
        loaded=True,
        granted_position=320,
    )
    return replace(found, **told)


def adopt(
    *reports: WorkerReport, rolled_back: tuple[int | None, int] = (None, 0), **shape: Any
) -> tuple[Run, list[act.Action]]:
    rules = policy(**{"count": 2, **shape})
    run, actions = machine.adopt(
        rules, list(reports), 110, Budgets(5), 4, 9, NOW_S, rolled_back=rolled_back
    )
    return run, list(actions)


def test_group_that_trains_is_taken_over_as_it_stands_and_told_of() -> None:
    ahead = report("w0001", 1, 159, share=(1, 2))
    run, actions = adopt(ahead, report("w0002", 0))
    assert run.members == run.seats == ("w0002", "w0001")
    assert (run.phase, run.generation, run.started) == (Phase.TRAINING, 4, True)
    assert (run.step, run.position, run.laggards) == (158, 316, 1)
    assert (run.highest, run.fastest, run.fastest_position) == (159, 159, 318)
    assert (run.since_s, run.moved_s, run.counted_s) == (NOW_S, NOW_S, NOW_S)
    assert (run.saves.last_s, run.saves.committed, run.saves.changes) == (NOW_S, 110, False)
    assert run.saves.in_flight is not None, "what the dead driver had under way is made up for"
    assert run.workers["w0001"] == Worker(
        "w0001",
        Stage.MEMBER,
        NOW_S,
        NOW_S,
        node="n-w0001",
        pid=11,
        address="w0001:1",
        step=159,
        position=318,
        joined=True,
        generation=4,
        rank=1,
        moved_s=NOW_S,
        share=(1, 2),
    )
    told = actions[0]
    assert isinstance(told, act.Note)
    assert told.event == WorkersAdopted(
        workers=("w0001", "w0002"),
        members=("w0002", "w0001"),
        generation=4,
        complete=True,
        step=158,
    )


@pytest.mark.parametrize(
    ("told", "stage", "doing"),
    [
        (report("w0003", None, None, loaded=False), Stage.STARTING, Doing.LOADING),
        (report("w0003", None, None, joined=False), Stage.WARM, Doing.IDLE),
        (report("w0003", 0, joined=False), Stage.MEMBER, Doing.JOINING),
        (report("w0003", 0), Stage.MEMBER, Doing.IDLE),
    ],
)
def test_worker_is_taken_over_at_what_it_was_doing(
    told: WorkerReport, stage: Stage, doing: Doing
) -> None:
    run, _ = adopt(told, report("w0004", 1))
    worker = run.workers["w0003"]
    assert (worker.stage, worker.doing) == (stage, doing)


@pytest.mark.parametrize(("on_loss", "target"), [("replace", 3), ("shrink", 2)])
def test_group_that_had_shrunk_stays_as_small_only_where_that_is_asked_for(
    on_loss: str, target: int
) -> None:
    group = (report("w0001", 0), report("w0002", 1))
    run, _ = adopt(*group, count=3, smallest=1, on_loss=on_loss)
    assert run.target == target


def test_members_of_the_newest_generation_come_first_where_the_group_is_in_pieces() -> None:
    old = report("w0001", 0, generation=3)
    run, _ = adopt(old, report("w0003", 1), report("w0002", 0, joined=False))
    assert run.seats == ("w0002", "w0003", "w0001")
    run, _ = adopt(old, report("w0003", 1), report("w0002", 0))
    assert run.seats == ("w0002", "w0003"), "who was left behind is none of a group that trains"


def test_driver_that_finds_nobody_with_a_rank_has_no_group() -> None:
    run, _ = adopt(report("w0003", None, None))
    assert (run.step, run.position, run.generation, run.started) == (0, 0, 0, False)
    assert (run.granted_end, run.granted_position, run.members) == (0, 0, ())
    assert (run.highest, run.fastest, run.fastest_position) == (0, 0, 0)
    assert (run.saves.last_s, run.saves.owed) == (NOW_S, True)


@pytest.mark.parametrize("lower", [False, True])
def test_grant_that_died_with_its_driver_is_sent_again_where_some_lack_it(lower: bool) -> None:
    granted = {"granted_end": 390, "granted_position": 780}
    group = [report("w0001", 0, **granted), report("w0002", 1, **granted)]
    if lower:
        group[1] = replace(group[1], granted_end=300)
    _, actions = adopt(*group)
    grants = [action for action in actions if isinstance(action, act.Grant)]
    assert [(grant.workers, grant.end) for grant in grants] == (
        [(("w0001", "w0002"), 390)] if lower else []
    )


def test_state_that_was_rolled_back_from_is_no_groups_any_more() -> None:
    run, actions = adopt(report("w0001", 0), report("w0002", 1), rolled_back=(150, 4))
    told = actions[0]
    assert isinstance(told, act.Note)
    assert isinstance(told.event, WorkersAdopted)
    assert not told.event.complete
    assert [run.workers[ident].step for ident in ("w0001", "w0002")] == [None, None]
    assert run.workers["w0001"].tainted
