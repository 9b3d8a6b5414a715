"""Is the end of a run told by the same words and numbers wherever it is?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.decide.actions import Finish, Outcome
from orchestrator.driver.result import (
    RunResult,
    ended_before_it_began,
    exit_code_of,
    label_url,
    status_of,
)


@pytest.mark.parametrize(
    ("outcome", "cause", "word", "code"),
    [
        (Outcome.DONE, None, "done", 0),
        (Outcome.END_OF_DATA, None, "end of data", 0),
        (Outcome.STOPPED, "SIGINT", "stopped", 130),
        (Outcome.STOPPED, "SIGTERM", "stopped", 143),
        (Outcome.STOPPED, "request", "stopped", 0),
        (Outcome.STOPPED, None, "stopped", 0),
        (Outcome.FAILED, None, "failed", 1),
    ],
)
def test_outcome_has_one_word_and_one_exit_code(
    outcome: Outcome, cause: str | None, word: str, code: int
) -> None:
    assert status_of(outcome) == word
    assert exit_code_of(Finish(outcome, "", 1, cause)) == code


@pytest.mark.parametrize("output", ["gs://b/more", "gs://b/more/"])
def test_checkpoint_is_told_as_a_url_that_works_from_anywhere(output: str) -> None:
    assert label_url(output, "a0001-g0001/m-5") == "gs://b/more/a0001-g0001/m-5"
    assert label_url(output, None) is None
    assert label_url("gs://b/X/", "m-5") == "gs://b/X/m-5"


def test_run_that_had_ended_before_says_where_it_stands() -> None:
    start: Any = SimpleNamespace(step=9, until=8, own_label="a/m-9", warnings=("old",))
    told = ended_before_it_began("gs://b/more", start)
    assert told == RunResult(
        status="done",
        start_step=9,
        final_step=9,
        checkpoint="gs://b/more/a/m-9",
        world_size=0,
        reason="step 8 is reached already: the newest checkpoint is at step 9",
        output="gs://b/more",
        warnings=("old",),
    )
    assert told.as_dict() == {
        "status": "done",
        "start_step": 9,
        "final_step": 9,
        "checkpoint": "gs://b/more/a/m-9",
        "world_size": 0,
        "incidents": (),
        "goodput": None,
        "reason": "step 8 is reached already: the newest checkpoint is at step 9",
        "output": "gs://b/more",
        "attempt": 0,
        "exit_code": 0,
        "error": None,
        "steps_done": 0,
        "warnings": ("old",),
    }
