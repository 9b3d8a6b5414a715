"""Does a driver begin with all that the checkpoint, the journal and its workers tell, and no more?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.doing import Doing
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.run import Run
from orchestrator.decide.save_policy import SaveLog
from tests.simulation.world import policy

NOW_S = 100.0
Begun = tuple[Run, tuple[act.Action, ...]]


def test_run_begins_where_its_checkpoint_is() -> None:
    origin = ev.Found(3, 12)
    rules, spent = policy(count=2), Budgets(50)
    run, actions = machine.begin(rules, origin, 3, spent, 4, NOW_S, 5, changes=True)
    assert run.saves == SaveLog(3, NOW_S, committed=3, committed_position=12, changes=True)
    assert (run.policy, run.budgets, run.origin) == (rules, spent, origin)
    assert (run.place, run.highest) == ((3, 12), 3)
    assert (run.granted_end, run.granted_position) == (3, 12)
    assert (run.generation, run.target, run.next_worker) == (4, 2, 7)
    assert (run.phase, run.since_s, run.moved_s) == (Phase.WAITING, NOW_S, NOW_S)
    started = [item.worker for item in actions if isinstance(item, act.StartWorker)]
    assert started == ["w0005", "w0006"]


def test_run_that_begins_elsewhere_has_saved_nothing_of_its_own() -> None:
    run, _ = machine.begin(policy(count=1), ev.Found(3, 12), None, Budgets(50), 0, NOW_S)
    assert run.saves == SaveLog(3, NOW_S)
    assert list(run.workers) == ["w0001"]
    first, _ = machine.begin(policy(count=1), ev.Found(None), None, Budgets(50), 0, NOW_S)
    assert (first.place, first.saves.last_step, first.granted_end) == ((0, 0), 0, 0)


def report(worker: str, rank: int | None, step: int | None, **more: Any) -> machine.WorkerReport:
    known = machine.WorkerReport(
        worker,
        f"node-{worker}",
        7,
        f"{worker}:1",
        4,
        rank,
        2,
        step,
        2 * (step or 0),
        54,
        held=False,
        joined=rank is not None,
        loaded=True,
        granted_position=108,
        share=(rank, 2) if rank is not None else None,
    )
    return replace(known, **more)


WHOLE = (report("w0001", 0, 52), report("w0002", 1, 51))


def adopted(reports: Iterable[machine.WorkerReport] = WHOLE, **more: Any) -> Begun:
    shape = {"count": 2, "save_steps": 1000, **more.pop("shape", {})}
    return machine.adopt(policy(**shape), list(reports), 40, Budgets(5), 6, 9, NOW_S, **more)


def noted(begun: Begun, word: str) -> list[dict[str, Any]]:
    return [
        item.event.record()
        for item in begun[1]
        if isinstance(item, act.Note) and item.event.word == word
    ]


def test_group_that_goes_on_is_known_as_far_as_its_members_are() -> None:
    run, _ = adopted(changes=True, rolled_back=(45, 3))
    assert (run.phase, run.since_s, run.moved_s, run.counted_s) == (
        Phase.TRAINING,
        NOW_S,
        NOW_S,
        NOW_S,
    )
    assert (run.place, run.highest, run.laggards) == ((51, 102), 52, 1)
    assert (run.fastest, run.fastest_position) == (52, 104)
    assert (run.granted_end, run.granted_position) == (54, 108)
    assert (run.generation, run.used_generation, run.next_worker) == (4, 6, 9)
    assert run.members == run.seats == ("w0001", "w0002")
    assert (run.started, run.pieced, run.rolled_back_from) == (True, False, 45)
    log = run.saves
    assert (log.committed, log.committed_position, log.changes) == (40, None, True)
    assert log.last_s == NOW_S
    assert adopted()[0].saves.changes is False


def test_group_that_goes_on_as_it_was_granted_is_told_nothing() -> None:
    assert not [item for item in adopted()[1] if isinstance(item, act.Grant | act.Quiesce)]


def test_member_of_the_generation_before_is_none_of_a_group_that_is_whole() -> None:
    run, _ = adopted([*WHOLE, report("w0003", 0, 50, generation=3)])
    assert run.members == ("w0001", "w0002")
    assert run.workers["w0003"].rank is None


def test_first_save_after_a_driver_died_is_made_soon() -> None:
    """What it owed isn't known."""
    run, actions = adopted([report("w0001", 0, 54), report("w0002", 1, 54)])
    (grant,) = [item for item in actions if isinstance(item, act.Grant)]
    assert len(grant.saves) == 1
    assert grant.saves[0] > 54
    assert run.saves.last_s == NOW_S


@pytest.mark.parametrize(
    ("told", "stage", "doing"),
    [
        (report("w0003", None, None), Stage.WARM, Doing.IDLE),
        (report("w0003", None, None, loaded=False), Stage.STARTING, Doing.LOADING),
        (report("w0003", 2, 51), Stage.MEMBER, Doing.IDLE),
        (report("w0003", 2, 51, joined=False), Stage.MEMBER, Doing.JOINING),
    ],
)
def test_worker_is_known_by_all_that_it_says(
    told: machine.WorkerReport, stage: Stage, doing: Doing
) -> None:
    run, _ = adopted([*WHOLE, told])
    assert run.workers["w0003"] == Worker(
        "w0003",
        stage,
        NOW_S,
        NOW_S,
        node="node-w0003",
        pid=7,
        address="w0003:1",
        step=told.step,
        position=told.position,
        joined=told.joined,
        doing=doing,
        generation=4,
        rank=told.rank,
        moved_s=NOW_S,
        share=told.share,
    )


def test_adoption_is_told_with_who_was_there() -> None:
    begun = adopted([*WHOLE, report("w0003", None, None)])
    (told,) = noted(begun, "adopted")
    del told["event"]
    assert told == {
        "workers": ["w0001", "w0002", "w0003"],
        "members": ["w0001", "w0002"],
        "generation": 4,
        "complete": True,
        "step": 51,
    }


def test_size_that_is_wanted_is_that_of_the_group_where_it_shrinks_or_is_larger() -> None:
    for shape, target in (
        ({"count": 3, "smallest": 1, "largest": 3}, 3),
        ({"count": 3, "smallest": 1, "largest": 3, "on_loss": "shrink"}, 2),
        ({"count": 1, "largest": 3}, 2),
    ):
        assert adopted(shape=shape)[0].target == target


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ([report("w0001", 0, 52, held=True), WHOLE[1]], "while the group wasn't training"),
        ([report("w0001", 0, 52, joined=False), WHOLE[1]], "while the group wasn't training"),
    ],
)
def test_group_that_does_not_train_is_gathered_with_the_reason(
    reports: list[machine.WorkerReport], reason: str
) -> None:
    begun = adopted(reports)
    (gathering,) = noted(begun, "gathering")
    assert gathering["reason"] == f"the driver died, {reason}"
    assert noted(begun, "adopted")[0]["complete"] is False
    assert begun[0].pieced


def test_members_stand_in_the_order_of_generation_and_rank() -> None:
    """Who has a state of the generation before the one that was being formed comes after it."""
    run, _ = adopted(
        [
            report("w0001", 1, 48, generation=3),
            report("w0002", 0, 48, generation=3),
            report("w0003", 1, None, joined=False),
            report("w0004", 0, None, joined=False),
        ]
    )
    assert run.seats == ("w0004", "w0003", "w0002", "w0001")
    assert run.generation == 4
    assert (run.place, run.laggards) == ((48, 96), 2)


def test_run_whose_workers_have_no_state_has_not_started() -> None:
    run, _ = adopted([report("w0001", None, None)])
    assert (run.started, run.generation, run.place) == (False, 0, (0, 0))
    assert (run.granted_end, run.granted_position, run.members) == (0, 0, ())
    assert (run.highest, run.fastest, run.fastest_position) == (0, 0, 0)


def test_state_that_was_rolled_back_from_is_nobodys() -> None:
    held = [replace(each, held=True) for each in WHOLE]
    for until, step in ((3, 52), (4, None)):
        run, _ = adopted(held, rolled_back=(45, until))
        worker = run.workers["w0001"]
        assert (worker.step, worker.tainted) == (step, step is None)
    trains, _ = adopted(rolled_back=(45, 4))
    assert trains.pieced, "nobody goes on from it"
    assert [worker.joined for worker in trains.workers.values()] == [False, False]
    warm, _ = adopted([*held, report("w0003", None, None)], rolled_back=(45, 4))
    assert not warm.workers["w0003"].tainted


def test_grant_that_reached_some_members_alone_is_sent_again_to_all() -> None:
    earlier = replace(WHOLE[1], granted_end=53), replace(WHOLE[1], granted_position=106)
    for lacking in earlier:
        _, actions = adopted([WHOLE[0], lacking])
        grants = [item for item in actions if isinstance(item, act.Grant)]
        assert {(each.workers, each.end >= 54) for each in grants} == {(("w0001", "w0002"), True)}
