"""Does a reader of the journal know how the run stands?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.decide import standing
from orchestrator.decide.standing import MOST_INCIDENTS, MOST_WARNINGS, JournaledState
from orchestrator.journal.folding import folded
from orchestrator.journal.parsing import parse, parse_all

ATTEMPT = {"event": "attempt", "at": 900.0, "attempt": 1}
FORMED = {"event": "generation", "generation": 3, "step": 5, "workers": ["w0001", "w0002"]}
TRAINING = {"event": "training", "step": 6}
WARM = [{"event": "worker_warm", "worker": name, "node": "n1"} for name in ("w0001", "w0002")]
LOST = {"event": "worker_lost", "worker": "w0002", "rank": 1, "reason": "silent"}
OVER = {"event": "incident", "kind": "died", "recovered_s": 3.0, "steps_redone": 2}
ENDED = {"event": "finish", "reason": "done", "step": 20}


def after(*events: dict[str, Any]) -> JournaledState:
    return folded(JournaledState, parse_all(events))


@pytest.mark.parametrize(
    ("event", "phase", "reason"),
    [
        (ATTEMPT, "starting", ""),
        ({"event": "waiting", "reason": "two are lacking"}, "waiting", "two are lacking"),
        ({**FORMED, "reason": "start"}, "forming", "start"),
        (TRAINING, "training", ""),
        ({"event": "finding_checkpoint", "reason": "all died"}, "recovering", "all died"),
        ({"event": "stopping", "reason": "asked to"}, "stopping", "asked to"),
        ({"event": "give_up", "reason": "too many"}, "stopping", "too many"),
        ({"event": "end_of_data", "reason": "w0001 has no more"}, "stopping", "w0001 has no more"),
        ({"event": "user_error", "reason": "it raised"}, "stopping", "it raised"),
        (ENDED, "ended", "done"),
        (LOST, "recovering", "silent"),
        ({"event": "adopted", "complete": True}, "training", "as before"),
        ({"event": "adopted", "complete": False}, "waiting", "as before"),
        (OVER, "training", "as before"),
        ({**OVER, "recovered_s": None}, "waiting", "as before"),
        ({**LOST, "rank": None}, "waiting", "as before"),
        ({"event": "progress", "step": 9}, "waiting", "as before"),
    ],
)
def test_phase_is_that_of_the_last_event_that_changes_it(
    event: dict[str, Any], phase: str, reason: str
) -> None:
    found = after({"event": "waiting", "reason": "as before"}, event)
    assert (found.phase, found.reason) == (phase, reason)


def test_next_attempt_starts_and_has_not_ended_and_a_late_word_of_the_one_before_changes_nothing() -> (
    None
):
    again = {"event": "progress", "attempt": 2, "step": 20, "at": 990.0}
    found = after(ATTEMPT, ENDED, again)
    assert (found.attempt, found.finish, found.phase) == (2, None, "starting")
    late = after(ATTEMPT, ENDED, again, {**TRAINING, "attempt": 1, "at": 950.0})
    assert (late.attempt, late.phase, late.last_at) == (2, "training", 950.0)
    assert after({"event": "progress"}).attempt == 1


def test_newest_of_each_kind_is_kept() -> None:
    told: list[dict[str, Any]] = [
        {"event": word, "step": step} for step in (1, 2) for word in ("progress", "step_times")
    ]
    found = after(ATTEMPT, *told, ENDED)
    assert found.begun == parse(ATTEMPT)
    assert (found.progress, found.timed) == (parse(told[2]), parse(told[3]))
    assert found.finish == parse(ENDED)


def test_workers_are_those_that_are_warm_and_the_group_is_the_newest() -> None:
    found = after(*WARM, FORMED)
    assert found.alive == {"w0001": parse(WARM[0]), "w0002": parse(WARM[1])}
    assert (found.seats, found.generation) == (["w0001", "w0002"], 3)
    assert set(after(*WARM, FORMED, LOST).alive) == {"w0001"}
    assert set(after(*WARM, {"event": "worker_released", "worker": "w0001"}).alive) == {"w0002"}
    nobody_known: list[dict[str, Any]] = [
        {**LOST, "worker": "w9"},
        {"event": "worker_released", "worker": "w9"},
    ]
    assert set(after(*WARM, *nobody_known).alive) == {"w0001", "w0002"}
    ended = after(*WARM, FORMED, ENDED)
    assert (ended.alive, ended.seats, ended.generation) == ({}, [], 3)


def test_group_that_a_driver_adopts_is_the_newest() -> None:
    adopted = {"event": "adopted", "members": ["w0002"], "workers": ["w0002", "w0003"]}
    found = after(FORMED, {**adopted, "generation": 4})
    assert (found.seats, found.generation) == (["w0002"], 4)
    assert after(FORMED, adopted).generation == 3
    assert after(FORMED, {**FORMED, "generation": 0, "workers": []}).generation == 3


def test_loss_is_open_until_its_incident_is_over() -> None:
    found = after(LOST)
    assert found.open_loss == parse(LOST)
    assert after({**LOST, "rank": None}).open_loss is None
    over = after(LOST, OVER)
    assert over.open_loss is None
    assert over.incidents == [parse(OVER)]


def test_oldest_incidents_are_counted_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_INCIDENTS >= 1000
    monkeypatch.setattr(standing, "MOST_INCIDENTS", 2)
    told = [{**OVER, "steps_redone": number} for number in (1, 2, 4, 8)]
    found = after(*told[:2])
    assert (found.earlier_incidents, found.earlier_redone) == (0, 0)
    found = after(*told)
    assert found.incidents == [parse(told[2]), parse(told[3])]
    assert (found.earlier_incidents, found.earlier_redone) == (2, 3)


def test_warnings_are_kept_once_each_and_not_without_end() -> None:
    told = [{"event": "warning", "reason": f"{number % 300}"} for number in range(600)]
    assert after(*told).warnings == [str(number) for number in range(MOST_WARNINGS)]


@pytest.mark.parametrize(
    ("events", "step"),
    [
        ([ATTEMPT], None),
        ([FORMED], 5),
        ([TRAINING], 6),
        ([{"event": "adopted", "step": 7}], 7),
        ([ENDED], 20),
        ([TRAINING, {"event": "progress", "step": 5}], 5),
        ([TRAINING, {"event": "progress"}], 6),
        ([TRAINING, {"event": "training"}], 6),
        ([TRAINING, {"event": "finish", "step": None}], 6),
        ([{"event": "finish", "step": None}, {"event": "progress", "step": 0}], 0),
        # What a thread that was overtaken tells after the end takes no step back
        ([ENDED, {"event": "progress", "step": 19}], 20),
        ([ENDED, {"event": "progress", "step": 21}], 21),
        ([ENDED, {"event": "progress"}], 20),
        ([{"event": "finish"}, {"event": "progress"}], None),
        ([TRAINING, {"event": "save_committed", "step": 3}], 6),
    ],
)
def test_step_is_the_last_that_anybody_told(events: list[dict[str, Any]], step: int | None) -> None:
    assert after(*events).step == step
