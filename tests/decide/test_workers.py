"""Is what is told of a worker known, paid for and written down as what it is?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.causes import Cause
from orchestrator.decide.doing import Doing
from orchestrator.decide.facts import workers
from orchestrator.decide.phases import Phase
from orchestrator.decide.roster import Stage
from orchestrator.decide.run import Ending, Run
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 64.0


def training(standby: int = 1, **facts: Any) -> Run:
    """Two members, and a worker that starts."""
    driver = Driver(count=2, standby=standby).training("w0001", "w0002")
    driver.step(4, "w0001", "w0002")
    return replace(driver.run, **facts)


def told(run: Run, *events: Any) -> Turn:
    handlers: dict[type[Any], Any] = {
        ev.Warm: workers.on_warm,
        ev.Notice: workers.on_notice,
        ev.Draining: workers.on_draining,
        ev.Room: workers.on_room,
        ev.Gone: workers.on_gone,
    }
    turn = Turn(run, NOW_S)
    for event in events:
        handlers[type(event)](turn, event)
    return turn


def noted(turn: Turn) -> list[dict[str, Any]]:
    return [item.event.record() for item in turn.actions if isinstance(item, act.Note)]


WARM = ev.Warm("w0003", "node", 77, "w0003:1", ("0", "1"), "group")


def test_worker_that_is_warm_is_a_standby_with_where_it_is() -> None:
    run = training(start_failures=3)
    loading = run.workers.put(replace(run.workers["w0003"], doing=Doing.LOADING))
    turn = told(replace(run, workers=loading), WARM)
    worker = turn.run.workers["w0003"]
    assert (worker.stage, worker.node, worker.pid, worker.address) == (
        Stage.WARM,
        "node",
        77,
        "w0003:1",
    )
    assert (worker.heard_s, worker.since_s, worker.doing) == (NOW_S, NOW_S, Doing.IDLE)
    assert turn.run.start_failures == 0
    assert noted(turn) == [
        {
            "event": "worker_warm",
            "worker": "w0003",
            "node": "node",
            "pid": 77,
            "seconds": NOW_S,
            "place": "group",
            "devices": ["0", "1"],
        }
    ]
    run = training()
    since = run.workers.put(replace(run.workers["w0003"], since_s=0.12345))
    (warm,) = noted(told(replace(run, workers=since), replace(WARM, devices=())))
    assert (warm["seconds"], "place" in warm) == (63.877, False), "it holds no GPU there"


def test_member_that_says_late_that_it_is_warm_keeps_its_rank() -> None:
    run = training()
    turn = told(run, ev.Warm("w0002", "node", 77, "other:1"))
    worker, before = turn.run.workers["w0002"], run.workers["w0002"]
    assert (worker.stage, worker.address, worker.since_s) == (
        before.stage,
        before.address,
        before.since_s,
    )
    assert (worker.node, worker.pid, worker.heard_s) == ("node", 77, NOW_S)


def test_worker_that_nobody_knows_is_ended() -> None:
    turn = told(training(), ev.Warm("w0009", "node", 1, "a:1"))
    assert turn.actions == [act.EndWorker("w0009", "released", "not known to this run")]


def test_notice_is_told_once_and_the_group_saves_where_nobody_can_take_over() -> None:
    turn = told(training(), ev.Notice("w0002", "SIGTERM"), ev.Notice("w0002", "again"))
    assert turn.run.workers["w0002"].leaving
    assert noted(turn) == [
        {
            "event": "worker_notice",
            "worker": "w0002",
            "rank": 1,
            "node": "node-w0002",
            "reason": "SIGTERM",
        },
        {"event": "save_owed", "reason": "nobody can take over yet", "worker": "w0002"},
    ]
    assert turn.run.saves.owed
    assert not told(training(), ev.Notice("w0009", "SIGTERM")).actions


@pytest.mark.parametrize(
    ("facts", "worker"),
    [
        ({"phase": Phase.GATHERING}, "w0002"),
        ({"ending": Ending(act.Outcome.STOPPED, "stopped")}, "w0002"),
        ({}, "w0003"),
    ],
)
def test_notice_owes_no_save_elsewhere(facts: dict[str, Any], worker: str) -> None:
    turn = told(training(**facts), ev.Notice(worker, "SIGTERM"))
    assert turn.run.workers[worker].leaving
    assert not turn.run.saves.owed
    assert [each["event"] for each in noted(turn)] == ["worker_notice"]


def test_member_that_a_standby_follows_owes_no_save() -> None:
    run = told(training(), WARM).run
    assert not told(run, ev.Notice("w0002", "SIGTERM")).run.saves.owed


def test_node_that_drains_is_a_notice_to_its_workers_alone() -> None:
    turn = told(training(), ev.Draining(("node-w0001", "elsewhere")))
    assert [worker.leaving for worker in turn.run.workers.values()] == [True, False, False]
    assert noted(turn)[0]["reason"] == "its node is draining"


def test_room_is_known_while_the_group_trains() -> None:
    assert told(training(), ev.Room(3)).run.room == 3
    assert told(training(phase=Phase.GATHERING), ev.Room(3)).run.room == 0


def test_loss_of_a_member_is_told_paid_for_and_gathers_the_group() -> None:
    turn = told(training(), ev.Gone("w0002", Cause.DIED, "killed by SIGKILL", exit_code=-9))
    run = turn.run
    assert ("w0002" in run.workers, run.members, run.seats) == (
        False,
        ("w0001",),
        ("w0001", "w0002"),
    )
    assert noted(turn) == [
        {
            "event": "worker_lost",
            "worker": "w0002",
            "rank": 1,
            "node": "node-w0002",
            "pid": 1,
            "cause": "died",
            "reason": "killed by SIGKILL",
            "step": 4,
            "phase": "training",
            "exit_code": -9,
        }
    ]
    assert run.last_cause == "w0002 was lost (died): killed by SIGKILL"
    assert run.gather_for == "w0002 (rank 1) is gone: died"
    assert len(run.budgets.entries) == 1
    incident = run.incident
    assert incident is not None
    assert (incident.kind, incident.rank, incident.worker, incident.node) == (
        "died",
        1,
        "w0002",
        "node-w0002",
    )
    assert (incident.detail, incident.exit_code) == ("killed by SIGKILL", -9)
    assert run.start_failures == 0
    silent = told(training(), ev.Gone("w0001", Cause.DIED)).run
    assert (silent.last_cause, silent.members) == ("w0001 was lost (died)", ("w0002",))
    assert silent.gather_for == "w0001 (rank 0) is gone: died"


def test_loss_counts_for_a_loop_of_crashes_only_of_a_member_of_a_group_that_trains() -> None:
    gone = ev.Gone("w0002", Cause.DIED, "why")
    for phase, times in ((Phase.TRAINING, 1), (Phase.FORMING, 0)):
        assert told(training(phase=phase), gone).run.streak.times == times
    standby = told(training(started=False), replace(gone, worker="w0003")).run
    assert standby.streak.times == 0


def test_member_that_was_about_to_go_is_counted_as_that() -> None:
    run = training()
    leaving = replace(run, workers=run.workers.put(replace(run.workers["w0002"], leaving=True)))
    for cause, counted in (
        (Cause.DIED, "preempted"),
        (Cause.NODE, "node"),
        (Cause.RELEASED, "released"),
    ):
        turn = told(leaving, ev.Gone("w0002", cause))
        assert noted(turn)[0]["cause"] == counted
        assert turn.run.gather_for.endswith(counted)


def test_worker_that_was_let_go_is_no_loss() -> None:
    turn = told(training(), ev.Gone("w0003", Cause.RELEASED, "its rank has moved on"))
    assert noted(turn) == [
        {"event": "worker_released", "worker": "w0003", "reason": "its rank has moved on"}
    ]
    assert not turn.run.gather_for
    assert not turn.run.budgets.entries
    assert turn.run.members == ("w0001", "w0002")


def test_loss_of_a_worker_without_a_rank_costs_a_group_nothing_that_goes_on_without_it() -> None:
    run = training(start_failures=1)
    turn = told(run, ev.Gone("w0003", Cause.DIED, "no such file"))
    assert noted(turn)[0]["spared"] is True
    assert (turn.run.start_failures, turn.run.last_cause) == (2, "")
    assert not turn.run.budgets.entries
    assert turn.run.incident is None
    assert not turn.run.gather_for
    paid = told(replace(run, started=False), ev.Gone("w0003", Cause.DIED, "no such file"))
    assert "spared" not in noted(paid)[0]
    assert paid.run.last_cause == "w0003 was lost (died): no such file"
    assert len(paid.run.budgets.entries) == 1
    assert paid.run.incident is None
    silent = told(replace(run, started=False, last_cause="x"), ev.Gone("w0003", Cause.DIED))
    assert silent.run.last_cause == "x", "it says nothing of why"


def test_worker_that_nobody_knows_is_no_loss() -> None:
    run = training()
    assert told(run, ev.Gone("w0009", Cause.DIED)).run is run


def seen(run: Run, rank: int) -> Turn:
    turn = Turn(run, NOW_S)
    workers.on_seen_dead(turn, rank)
    return turn


def test_member_that_its_peers_saw_die_is_gone_and_awaited() -> None:
    turn = seen(training(), 1)
    assert turn.actions[0] == act.AwaitEnd("w0002")
    assert turn.run.seen_dead == {"w0002": (1, False)}
    assert turn.run.members == ("w0001",)
    assert noted(turn)[0]["cause"] == "died"
    both = seen(turn.run, 0).run
    assert both.seen_dead == {"w0002": (1, False), "w0001": (0, False)}
    for rank in (1, 2, 9):
        assert seen(turn.run, rank).run is turn.run
    run = training()
    ended = run.workers.put(replace(run.workers["w0002"], ended_s=0.0))
    assert not seen(replace(run, workers=ended), 1).actions, "that's told with its reason"


@pytest.mark.parametrize(
    ("gone", "told_of"),
    [
        (ev.Gone("w0002", Cause.DIED), None),
        (ev.Gone("w0002", Cause.DIED, "out of memory", exit_code=-9), "died"),
        (ev.Gone("w0002", Cause.NODE), "node"),
    ],
)
def test_what_ray_says_later_of_a_member_that_was_seen_dead_explains_its_loss(
    gone: ev.Gone, told_of: str | None
) -> None:
    run = replace(seen(training(), 1).run, seen_dead={"w0002": (1, False), "w0009": (0, True)})
    turn = told(run, gone)
    assert turn.run.seen_dead == {"w0009": (0, True)}
    assert noted(turn) == (
        []
        if told_of is None
        else [
            {
                "event": "worker_loss_explained",
                "worker": "w0002",
                "rank": 1,
                "cause": told_of,
                "reason": gone.detail,
            }
            | ({} if gone.exit_code is None else {"exit_code": gone.exit_code})
        ]
    )
    assert turn.run.incident is not None
    assert (turn.run.incident.kind, turn.run.incident.exit_code) == (
        gone.cause.value,
        gone.exit_code,
    )
