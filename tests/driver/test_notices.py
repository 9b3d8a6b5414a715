"""In which words is somebody told of an incident and of the end?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.driver.notices import body, notice
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.run_events import IncidentOver, RunEnded, Warned

INCIDENT = IncidentOver(
    kind="died",
    reason="SIGKILL",
    generation=2,
    step=7,
    rank=1,
    node="node-b",
    worker="w0002",
    detected_s=0.1,
    recovered_s=12.3456,
    steps_redone=3,
    action="regroup",
    world_size_before=2,
    world_size=2,
)
ENDED = RunEnded(outcome="failed", reason="no memory", step=89, checkpoint_step=80)


def told_of(event: JournalEvent) -> dict[str, Any]:
    told = notice(event, "gs://b/more")
    assert told is not None
    return told


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            INCIDENT,
            "incident: died of rank 1 on node-b (SIGKILL); training went on after 12.3 s, 3 steps redone",
        ),
        (
            replace(INCIDENT, rank=None, node="", reason="", recovered_s=None),
            "incident: died; training didn't go on",
        ),
        (
            replace(INCIDENT, rank=0, recovered_s=None, losses=2, losses_allowed=5),
            "incident: died of rank 0 on node-b (SIGKILL); training didn't go on; "
            "loss 2 of 5 within an hour, 3 left",
        ),
        (
            replace(INCIDENT, kind="driver", rank=None, losses=5, losses_allowed=5),
            "incident: driver on node-b (SIGKILL); training went on after 12.3 s, 3 steps redone; "
            "restart 5 of 5 within an hour, 0 left",
        ),
        (ENDED, "failed at step 89: no memory"),
        (replace(ENDED, step=None, reason=""), "failed"),
    ],
)
def test_notice_is_one_line_of_what_is_known(event: JournalEvent, text: str) -> None:
    assert told_of(event)["text"] == f"tfresume gs://b/more: {text}"


def test_notice_names_the_run_and_the_command_that_shows_more() -> None:
    told = told_of(INCIDENT)
    assert (told["run"], told["event"]) == ("gs://b/more", "incident")
    assert told["logs"] == "tfresume logs gs://b/more --worker w0002"
    assert told["record"] == INCIDENT.record()
    assert told_of(ENDED)["logs"] == "tfresume logs gs://b/more"
    assert notice(Warned(reason="a word"), "gs://b/more") is None


def test_notice_holds_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "horse battery staple")
    told = told_of(replace(ENDED, reason="refused: horse battery staple"))
    assert told["text"].endswith("refused: ***")
    assert told["record"]["reason"] == "refused: ***"


def test_slack_gets_a_text_alone_and_others_all() -> None:
    told = told_of(ENDED)
    assert body(told, "https://hooks.slack.com/services/x") == {
        "text": "tfresume gs://b/more: failed at step 89: no memory\n`tfresume logs gs://b/more`"
    }
    assert body(told, "https://example.com/hooks.slack.com") is told
