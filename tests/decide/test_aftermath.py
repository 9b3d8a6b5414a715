"""Are losses that coincide with the driver's told, paid for and closed like any other?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.aftermath import Going, LeftBehind
from orchestrator.decide.budgets import Budgets, Entry, from_journal
from orchestrator.decide.causes import Cause
from orchestrator.decide.driver_restarts import MOST_DEATHS, Death
from orchestrator.decide.recovery import Streak
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse, parse_all
from tests.simulation.world import policy

NOW = 1000.0
JOURNAL: list[dict[str, Any]] = [
    {"event": "attempt", "at": 900.0},
    {"event": "worker_warm", "at": 901.0, "worker": "w0001", "node": "n1", "pid": 11},
    {"event": "worker_warm", "at": 901.0, "worker": "w0002", "node": "n2", "pid": 12},
    {"event": "worker_warm", "at": 902.0, "worker": "w0003", "node": "n1", "pid": 13},
    {
        "event": "generation",
        "at": 902.0,
        "generation": 1,
        "step": 100,
        "workers": ["w0001", "w0002"],
    },
    {"event": "training", "at": 903.0, "step": 100},
    {"event": "save_committed", "at": 904.0, "step": 110, "generation": 1},
    {"event": "progress", "at": 990.0, "step": 153},
]


def told(*events: dict[str, Any]) -> LeftBehind:
    found = folded(Going, parse_all([*JOURNAL, *events])).left_behind(NOW)
    assert found is not None
    return found


def notes(actions: tuple[act.Action, ...], name: str) -> list[Any]:
    return [
        action.event.record()
        for action in actions
        if isinstance(action, act.Note) and action.event.word == name
    ]


def report(
    worker: str, rank: int | None, step: int | None, generation: int = 1
) -> machine.WorkerReport:
    return machine.WorkerReport(
        worker,
        "n1",
        1,
        "a",
        generation if rank is not None else 0,
        rank,
        2,
        step,
        0,
        160,
        False,
        True,
        True,
    )


def test_left_behind_knows_members_standbys_steps_and_the_silence() -> None:
    left = told()
    assert left.members == {"w0001": 0, "w0002": 1}
    assert left.standbys == ("w0003",)
    assert (left.highest, left.silent_s, left.world_size, left.loss) == (153, 10.0, 2, None)


@pytest.mark.parametrize(
    "events",
    [
        [*JOURNAL, {"event": "finish", "at": 995.0, "step": 160}],
        [item for item in JOURNAL if item["event"] != "training"],
        [],
    ],
    ids=["ended in order", "never trained", "empty"],
)
def test_left_behind_is_nothing_where_nobody_was_disturbed(events: list[dict[str, Any]]) -> None:
    assert folded(Going, parse_all(events)).left_behind(NOW) is None


def test_left_behind_of_a_loss_whose_incident_is_over_is_nothing_more() -> None:
    lost = {
        "event": "worker_lost",
        "at": 991.0,
        "worker": "w0002",
        "rank": 1,
        "cause": "died",
        "step": 153,
    }
    assert told(lost).loss is not None
    left = told(lost, {"event": "incident", "at": 992.0, "step": 140})
    assert (left.loss, left.highest) == (None, 140)


def test_left_behind_keeps_a_loss_under_way_when_an_outlier_was_told_beside_it() -> None:
    lost = {"event": "worker_lost", "at": 991.0, "worker": "w0002", "rank": 1, "cause": "died"}
    passing = {
        "event": "incident",
        "kind": "outlier",
        "detected_s": 0.0,
        "recovered_s": 0.0,
        "step": 150,
    }
    left = told(lost, passing)
    assert left.loss is not None
    assert (left.loss.worker, left.highest) == ("w0002", 153)


def test_begin_after_everybody_died_tells_the_steps_that_are_done_again() -> None:
    budgets = Budgets(5)
    run, actions = machine.begin(
        policy(count=2), ev.Found(110, 0), 110, budgets, 1, 50.0, 4, told()
    )
    assert [
        (item["worker"], item["rank"], item.get("spared")) for item in notes(actions, "worker_lost")
    ] == [
        ("w0003", None, True),
        ("w0001", 0, None),
        ("w0002", 1, None),
    ]
    assert run.budgets.spent(50.0) == 1, "what is lost together is one disturbance"
    for worker in ("w0004", "w0005"):
        run, actions = machine.advance(run, ev.Warm(worker, "n1", 1, worker), 51.0)
    (form,) = [action for action in actions if isinstance(action, act.Form)]
    for event in (*(ev.Joined(seat.worker, 2, 110) for seat in form.seats),):
        run, _ = machine.advance(run, event, 52.0)
    run, _ = machine.advance(run, ev.Progress("w0004", 2, 111, ev.Doing.STEP, 1.0), 53.0)
    run, actions = machine.advance(run, ev.Progress("w0005", 2, 111, ev.Doing.STEP, 1.0), 53.0)
    (incident,) = notes(actions, "incident")
    assert (incident["kind"], incident["rank"], incident["steps_redone"]) == ("died", 0, 43)
    assert incident["detected_s"] == 10.0, "from the driver's last word on"
    assert incident["recovered_s"] == 13.0
    assert incident["world_size_before"] == 2


def test_adopt_pays_for_the_member_that_died_with_the_driver() -> None:
    run, actions = machine.adopt(
        policy(count=2, standby=1),
        [report("w0001", 0, 158), report("w0003", None, None)],
        110,
        Budgets(5),
        1,
        4,
        50.0,
        left=told(),
    )
    (lost,) = notes(actions, "worker_lost")
    assert (lost["worker"], lost["rank"], lost["node"]) == ("w0002", 1, "n2")
    assert run.budgets.spent(50.0) == 1
    assert run.incident is not None
    assert (run.incident.kind, run.incident.rank, run.incident.highest) == ("died", 1, 158)
    paid = from_journal([parse({**lost, "at": NOW})], 5, 50.0, NOW)
    assert len(paid.entries) == 1, "the next driver knows of it"
    (gathering,) = notes(actions, "gathering")
    assert gathering["reason"] == "the driver died, and so did a part of the group"


def test_adopt_ends_a_run_whose_budget_is_used_up_by_it() -> None:
    run, _ = machine.adopt(
        policy(count=2), [report("w0001", 0, 158)], 110, Budgets(0), 1, 4, 50.0, left=told()
    )
    assert run.ending is not None
    assert "0" in run.ending.reason


def test_adopt_of_a_whole_group_tells_no_loss() -> None:
    run, actions = machine.adopt(
        policy(count=2),
        [report("w0001", 0, 158), report("w0002", 1, 158)],
        110,
        Budgets(5),
        1,
        4,
        50.0,
        left=told(),
    )
    assert run.incident is None
    assert [item["kind"] for item in notes(actions, "incident")] == ["driver"]
    assert [item["rank"] for item in notes(actions, "worker_lost")] == [None], (
        "the standby that is gone, which costs nothing"
    )


def test_adopt_closes_the_incident_that_the_dead_driver_had_opened() -> None:
    lost = {
        "event": "worker_lost",
        "at": 991.0,
        "worker": "w0002",
        "rank": 1,
        "cause": "hung",
        "step": 153,
        "reason": "silent",
    }
    formed = {
        "event": "generation",
        "at": 992.0,
        "generation": 2,
        "step": 153,
        "workers": ["w0001", "w0003"],
    }
    run, _ = machine.adopt(
        policy(count=2),
        [report("w0001", 0, 153, 2), report("w0003", 1, 153, 2)],
        110,
        Budgets(5),
        2,
        4,
        50.0,
        left=told(lost, formed),
    )
    assert run.incident is not None
    assert (run.incident.kind, run.incident.rank, run.incident.worker) == ("hung", 1, "w0002")


def test_adopt_tells_the_loss_that_was_seen_first_when_the_driver_took_another_member_along() -> (
    None
):
    seen = {
        "event": "worker_lost",
        "at": 991.0,
        "worker": "w0002",
        "rank": 1,
        "cause": "hung",
        "step": 153,
        "reason": "silent",
    }
    run, actions = machine.adopt(
        policy(count=2, standby=1),
        [report("w0003", None, None)],
        110,
        Budgets(5),
        1,
        4,
        50.0,
        left=told(seen),
    )
    assert [item["worker"] for item in notes(actions, "worker_lost")] == ["w0001"]
    assert run.incident is not None
    assert (run.incident.kind, run.incident.rank, run.incident.worker) == ("hung", 1, "w0002")


def test_driver_that_died_alone_is_an_incident_with_its_exit_code_and_restart() -> None:
    left = folded(Going, parse_all(JOURNAL)).left_behind(NOW, Death(-9, 2))
    run, actions = machine.adopt(
        policy(count=2),
        [report("w0001", 0, 158), report("w0002", 1, 158)],
        110,
        Budgets(5),
        1,
        4,
        50.0,
        left=left,
    )
    assert run.incident is None, "the group trains on: nothing waits for its end"
    (told_,) = notes(actions, "incident")
    assert (told_["kind"], told_["reason"]) == ("driver", "the driver died (killed by SIGKILL)")
    assert (told_["exit_code"], told_["losses"], told_["losses_allowed"]) == (-9, 2, MOST_DEATHS)
    assert (told_["detected_s"], told_["recovered_s"], told_["steps_redone"]) == (10.0, 10.0, 0)


def test_driver_that_died_while_its_group_was_formed_is_an_incident_until_that_trains() -> None:
    left = folded(Going, parse_all(JOURNAL)).left_behind(NOW, Death(-9, 2))
    reports = [report("w0001", 0, 158), replace(report("w0002", 1, 158), joined=False)]
    run, actions = machine.adopt(policy(count=2), reports, 110, Budgets(5), 1, 4, 50.0, left=left)
    assert not notes(actions, "incident"), "nobody trains yet"
    assert [item["rank"] for item in notes(actions, "worker_lost")] == [None]
    (gathering,) = notes(actions, "gathering")
    assert gathering["reason"] == "the driver died, while the group wasn't training"
    held = [ev.Held(worker, 1, 158, 0, worker, "asked") for worker in ("w0001", "w0002")]
    for event in held:
        run, actions = machine.advance(run, event, 51.0)
    (form,) = [action for action in actions if isinstance(action, act.Form)]
    for seat in form.seats:
        run, _ = machine.advance(run, ev.Joined(seat.worker, form.generation, form.step), 52.0)
    for seat in form.seats:
        done = ev.Progress(seat.worker, form.generation, form.step + 1, ev.Doing.STEP, 1.0)
        run, actions = machine.advance(run, done, 53.0)
    (told_,) = notes(actions, "incident")
    assert (told_["kind"], told_["reason"]) == ("driver", "the driver died (killed by SIGKILL)")
    assert (told_["exit_code"], told_["losses"], told_["losses_allowed"]) == (-9, 2, MOST_DEATHS)
    assert (told_["detected_s"], told_["recovered_s"], told_["steps_redone"]) == (10.0, 13.0, 0)


def test_driver_that_died_without_anybody_left_is_no_incident_that_is_over() -> None:
    nobody = [
        {"event": "worker_released", "at": 991.0, "worker": worker}
        for worker in ("w0001", "w0002", "w0003")
    ]
    run, actions = machine.begin(
        policy(count=2), ev.Found(110, 0), 110, Budgets(5), 1, 50.0, 4, told(*nobody)
    )
    assert not notes(actions, "incident")
    assert run.incident is not None
    assert (run.incident.kind, run.incident.highest) == ("driver", 153)


@pytest.mark.parametrize(
    ("death", "how"),
    [
        (None, "the driver died; how isn't known"),
        (Death(-9, 2), "the driver died (killed by SIGKILL)"),
    ],
)
def test_member_that_died_with_its_driver_is_told_with_where_it_was_and_of_what(
    death: Death | None, how: str
) -> None:
    left = folded(Going, parse_all(JOURNAL)).left_behind(NOW, death)
    living = [report("w0001", 0, 140), report("w0003", None, None)]
    rules = policy(count=2, standby=1)
    run, actions = machine.adopt(rules, living, 110, Budgets(5), 1, 4, 50.0, left=left)
    (lost,) = notes(actions, "worker_lost")
    gone = {"worker": "w0002", "rank": 1, "node": "n2", "pid": 12, "cause": "died"}
    why = {"reason": "it was gone when this driver came", "phase": "no driver"}
    assert {name: lost.get(name) for name in (*gone, *why)} == {**gone, **why}
    incident = run.incident
    assert incident is not None
    assert (incident.worker, incident.node, incident.rank) == ("w0002", "n2", 1)
    assert incident.detail == f"it was gone when this driver came: {how} as well"
    assert run.highest == incident.highest == 153
    assert run.budgets.entries == (Entry(Cause.DIED, "n2", 50.0),)
    assert run.streak == Streak(), "no step killed it"
    (gathering,) = notes(actions, "gathering")
    assert gathering["reason"] == "the driver died, and so did a part of the group"


@pytest.mark.parametrize("node", ["n2", None])
def test_disturbance_that_the_dead_driver_had_seen_is_told_as_it_saw_it(node: str | None) -> None:
    seen = {"event": "worker_lost", "at": 991.0, "worker": "w0002", "rank": 1, "cause": "hung"}
    left = told({**seen, "node": node, "reason": "silent for 30 s"})
    living = [report("w0001", 0, 158), report("w0003", None, None)]
    rules = policy(count=2, standby=1)
    run, _ = machine.adopt(rules, living, 110, Budgets(5), 1, 4, 50.0, left=left)
    assert run.incident is not None
    assert (run.incident.node, run.incident.detail) == (node or "", "silent for 30 s")


def test_record_of_a_driver_s_death_names_nobody_and_says_how_it_went_on() -> None:
    left = folded(Going, parse_all(JOURNAL)).left_behind(NOW + 0.123456)
    living = [report("w0001", 0, 158), report("w0002", 1, 158), report("w0003", None, None)]
    _, actions = machine.adopt(policy(count=2), living, 110, Budgets(5), 1, 4, 50.0, left=left)
    (over,) = notes(actions, "incident")
    del over["event"]
    assert over == {
        "kind": "driver",
        "rank": None,
        "node": "",
        "worker": "",
        "detected_s": 10.1235,
        "recovered_s": 10.1235,
        "steps_redone": 0,
        "action": "another driver has taken over, and the workers trained on",
        "reason": "the driver died; how isn't known",
        "generation": 1,
        "step": 158,
        "world_size_before": 2,
        "world_size": 2,
    }


@pytest.mark.parametrize("text", ["", "died", "-9 1", "-9 one 20"])
def test_death_of_a_driver_that_nobody_has_told_of_is_unknown(text: str) -> None:
    assert Death.parse(text) is None
    assert Death.parse(str(Death(-9, 3))) == Death(-9, 3)


def going(*events: dict[str, Any]) -> Going:
    return folded(Going, parse_all(events))


def test_silence_is_counted_from_the_last_event_that_tells_its_time_and_never_backwards() -> None:
    assert told({"event": "progress", "step": 154}).silent_s == 10.0
    assert told({"event": "progress", "step": 154, "at": NOW + 5.0}).silent_s == 0.0
    timeless = going({"event": "training", "step": 3}).left_behind(NOW)
    assert timeless is not None
    assert timeless.silent_s == 0.0


def test_steps_of_a_run_that_has_none_yet_begin_with_none() -> None:
    assert going({"event": "training"}, {"event": "progress", "step": 0}).highest == 0
    assert told({"event": "incident", "at": 992.0, "kind": "died"}).highest == 0
    ended = going(*JOURNAL, {"event": "finish", "at": 995.0, "step": 160})
    assert (ended.highest, ended.trained, ended.seats, ended.warm) == (0, False, [], {})


@pytest.mark.parametrize("kind", ["worker_lost", "worker_released"])
def test_worker_that_was_never_warm_is_nobody_who_is_left_behind(kind: str) -> None:
    left = told({"event": kind, "at": 991.0, "worker": "w0009"})
    assert (left.members, left.standbys) == ({"w0001": 0, "w0002": 1}, ("w0003",))


def test_loss_of_a_standby_is_no_disturbance_that_was_under_way() -> None:
    left = told({"event": "worker_lost", "at": 991.0, "worker": "w0003", "cause": "died"})
    assert (left.loss, left.standbys) == (None, ())


@pytest.mark.parametrize(
    ("events", "rolled_back"),
    [
        ([{"step": 150, "generation": 3}], (150, 3)),
        ([{"step": 150}], (None, 0)),
        ([{"step": 150, "generation": 3}, 149], (150, 3)),
        ([{"step": 150, "generation": 3}, 150], (150, 3)),
        ([{"step": 150, "generation": 3}, 151], (None, 3)),
        ([{"step": 0, "generation": 3}, 1], (None, 3)),
    ],
)
def test_roll_back_counts_until_a_step_beyond_it_is_committed(
    events: list[Any], rolled_back: tuple[int | None, int]
) -> None:
    records = [
        {"event": "save_committed", "step": item, "generation": 4}
        if isinstance(item, int)
        else {"event": "rolling_back", **item}
        for item in events
    ]
    assert going(*records).rolled_back == rolled_back
