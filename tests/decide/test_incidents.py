"""Is an incident about whom it is known to be about, and is its record what it cost?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import incidents
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.causes import Cause
from orchestrator.decide.incident import DRIVER, Incident, budget_told
from orchestrator.decide.roster import Stage, Worker
from orchestrator.decide.run import Run
from orchestrator.decide.turn import Turn
from orchestrator.journal.run_events import IncidentOver
from tests.decide.situation import Driver

NOW_S = 50.0
LOST = Worker("w0002", Stage.MEMBER, 0.0, 0.0, node="n2")
PEERS = Incident("peer lost", None, "", "", 40.0, 41.0, 9, 3, "told by w0001", restarts=(1, 20))


def turn_of(**fields: Any) -> Turn:
    fields = {"seats": ("a", "b"), "highest": 12, "step": 11, "generation": 4, **fields}
    return Turn(replace(Driver(count=2).run, **fields), NOW_S)


@pytest.mark.parametrize(
    ("kind", "moved_s", "began_s"),
    [
        ("hung", 30.0, 30.0),  # it has hung since then
        ("hung", 60.0, NOW_S),
        ("hung", 0.0, NOW_S),  # nothing has moved yet
        ("died", 30.0, NOW_S),
    ],
)
def test_hang_began_when_the_group_last_moved_and_anything_else_when_it_was_noticed(
    kind: str, moved_s: float, began_s: float
) -> None:
    turn = turn_of(moved_s=moved_s)
    incidents.open_incident(turn, kind, LOST, 1, "silent", -9)
    assert turn.run.incident == Incident(
        kind, 1, "n2", "w0002", began_s, NOW_S, 12, 2, "silent", exit_code=-9
    )


def test_incident_of_nobody_names_nobody() -> None:
    turn = turn_of()
    incidents.open_incident(turn, DRIVER, None, None, "it died")
    assert turn.run.incident == Incident(DRIVER, None, "", "", NOW_S, NOW_S, 12, 2, "it died")


@pytest.mark.parametrize(
    ("worker", "node", "ident"), [(LOST, "n2", "w0002"), (None, "", "")], ids=["known", "unknown"]
)
def test_incident_is_about_the_first_whose_rank_is_known_since_it_began(
    worker: Worker | None, node: str, ident: str
) -> None:
    turn = turn_of(incident=PEERS)
    incidents.open_incident(turn, "preempted", LOST, None, "a standby")
    assert turn.run.incident == PEERS
    incidents.open_incident(turn, "died", worker, 1, "killed", -9)
    known = Incident("died", 1, node, ident, 40.0, 41.0, 9, 3, "killed", exit_code=-9)
    assert turn.run.incident == known
    incidents.open_incident(turn, "died", replace(LOST, ident="w0003"), 2, "as well", 1)
    assert turn.run.incident == known


def test_what_a_worker_died_of_explains_the_incident_of_its_loss_and_no_other() -> None:
    turn = turn_of()
    incidents.explain(turn, "w0002", "died", "out of memory", -9)
    assert turn.run.incident is None
    known = replace(PEERS, worker="w0003")
    turn = turn_of(incident=known)
    incidents.explain(turn, "w0002", "died", "out of memory", -9)
    assert turn.run.incident == known


def test_incident_that_disturbs_nothing_is_over_as_it_begins() -> None:
    turn = turn_of(incident=PEERS)
    incidents.note_passing(turn, "outlier", "w is large", "it was committed")
    (note,) = turn.actions
    assert isinstance(note, act.Note)
    assert note.event == IncidentOver(
        kind="outlier",
        rank=None,
        node="",
        worker="",
        detected_s=0.0,
        recovered_s=0.0,
        steps_redone=0,
        action="it was committed",
        reason="w is large",
        generation=4,
        step=11,
        world_size_before=2,
        world_size=2,
    )
    assert turn.run.incident == PEERS


ENDED = Incident(
    "died", 1, "n2", "w0002", 40.123456, 41.0, 19, 3, "killed", "went on", 11, exit_code=-9
)


def run_of(incident: Incident, **policy: Any) -> Run:
    budgets = Budgets(5).spend(Cause.DIED, "n2", 41.0).spend(Cause.HUNG, "n1", 60.0)
    run = turn_of(budgets=budgets, incident=incident).run
    return replace(run, policy=replace(run.policy, batch_size=8, **policy))


def test_record_says_what_the_incident_cost_and_how_it_was_borne() -> None:
    run = run_of(ENDED)
    assert incidents.incident_record(run, ENDED, 60.987123) == IncidentOver(
        kind="died",
        rank=1,
        node="n2",
        worker="w0002",
        detected_s=0.8765,
        recovered_s=20.8637,
        steps_redone=8,
        action="went on",
        reason="killed",
        generation=4,
        step=11,
        world_size_before=3,
        world_size=2,
        effective_batch=16,
        on_resize="keep",
        exit_code=-9,
        losses=2,
        losses_allowed=5,
    )


def test_record_of_an_incident_that_the_run_ended_in_counts_up_to_it() -> None:
    late = replace(ENDED, detected_s=41.0 + 3600.0, resumed_from=None)
    record = incidents.incident_record(run_of(late), late, None)
    assert (record.recovered_s, record.steps_redone, record.losses) == (None, 0, 1)
    long = incidents.incident_record(run_of(ENDED), ENDED, 41.0 + 3600.0)
    assert long.losses == 1, "as things stand when it's over"


@pytest.mark.parametrize(
    ("incident", "policy"),
    [(replace(ENDED, world_size=2), {}), (ENDED, {"batches_per_step": 4})],
    ids=["as many", "batches that stay"],
)
def test_record_tells_the_batch_only_where_it_is_another(
    incident: Incident, policy: dict[str, Any]
) -> None:
    record = incidents.incident_record(run_of(incident, **policy), incident, 60.0)
    assert (record.effective_batch, record.on_resize) == (None, None)


def test_record_of_a_driver_s_death_counts_its_restarts() -> None:
    died = replace(PEERS, kind=DRIVER)
    record = incidents.incident_record(run_of(died), died, 60.0)
    assert (record.losses, record.losses_allowed) == (1, 20)


@pytest.mark.parametrize(
    ("kind", "losses", "allowed", "told"),
    [
        ("died", 2, 5, "loss 2 of 5 within an hour, 3 left"),
        ("died", 6, 5, "loss 6 of 5 within an hour, 0 left"),
        (DRIVER, 1, 20, "restart 1 of 20 within an hour, 19 left"),
        ("died", None, 5, ""),
        ("died", 2, None, ""),
    ],
)
def test_budget_is_told_with_what_is_left_where_the_incident_counts(
    kind: str, losses: int | None, allowed: int | None, told: str
) -> None:
    assert budget_told(kind, losses, allowed) == told
