"""Is the end of a process that was asked for TensorFlow told as what it was?"""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.driver.tensorflow_process import ask_tensorflow
from orchestrator.errors import FatalError, OrchestratorError, UserCodeError

ENDS_BADLY = "tests.driver.trials_that_end_badly"


@pytest.mark.parametrize(
    ("how", "timeout_s", "told", "remedy"),
    [
        ("killed", 60.0, "was killed, most likely for its memory", "more memory"),
        ("aborted", 60.0, "failed: its last words", ""),
        ("hangs", 0.5, "took more than 0.5 s and was ended", "fewer batches"),
    ],
)
def test_process_that_ends_badly_is_told_in_words_and_with_a_remedy(
    how: str,
    timeout_s: float,
    told: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRIAL_ENDS", how)
    with pytest.raises(FatalError, match=told) as caught:
        ask_tensorflow(ENDS_BADLY, {}, tmp_path / "answer.json", timeout_s)
    assert remedy in (caught.value.remedy or "")


class Ends:
    """A process that ends as it's told to."""

    def __init__(self, answer: Path) -> None:
        self.answer, self.answers = answer, False
        self.code, self.errors, self.error = 0, "", ""
        self.command: list[str] = []
        self.how: dict[str, Any] = {}

    def run(self, command: list[str], **how: Any) -> Any:
        self.command, self.how = command, how
        if self.answers:
            self.answer.write_text("the answer")
        if self.error:
            Path(f"{self.answer}.error").write_text(self.error)
        return SimpleNamespace(returncode=self.code, stderr=self.errors)


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ends:
    found = Ends(tmp_path / "answer.npz")
    monkeypatch.setattr(subprocess, "run", found.run)
    return found


def test_process_gets_its_task_and_further_words_and_no_more_than_its_time(ends: Ends) -> None:
    ends.answers = True
    ask_tensorflow("a.module", {"rank": 1}, ends.answer, 7.0, "more", "words")
    task = ends.answer.parent / "task.pickle"
    command = [sys.executable, "-m", "a.module", str(task), str(ends.answer), "more", "words"]
    assert ends.command == command
    assert pickle.loads(task.read_bytes()) == {"rank": 1}
    assert (ends.how["timeout"], ends.how["capture_output"], ends.how["text"]) == (7.0, True, True)


def test_error_that_the_process_tells_is_raised_as_if_it_had_been_met_here(ends: Ends) -> None:
    said = {"message": "no batch", "remedy": "Give one", "details": {"batch": 3}}
    ends.code = 1
    for kind, raised in (("UserCodeError", UserCodeError), ("OfAnotherVersion", OrchestratorError)):
        ends.error = json.dumps({"kind": kind, **said})
        with pytest.raises(OrchestratorError) as caught:
            ask_tensorflow("a.module", {}, ends.answer, 7.0)
        assert type(caught.value) is raised
        assert (caught.value.message, caught.value.remedy) == ("no batch", "Give one")
        assert caught.value.details == {"batch": 3}


WORKS = "See whether TensorFlow works on this machine: `tfresume doctor` tries it"


@pytest.mark.parametrize(
    ("code", "errors", "told", "remedy"),
    [
        (
            -signal.SIGKILL,
            "words",
            "the TensorFlow process was killed, most likely for its memory",
            "Ask again on a machine with more memory, or with smaller batches",
        ),
        (3, "", "the TensorFlow process failed: exit code 3", WORKS),
        (0, "", "the TensorFlow process failed: exit code 0", WORKS),
        (0, " no answer\n", "the TensorFlow process failed: no answer", WORKS),
        (1, "x" + "y" * 2000, f"the TensorFlow process failed: {'y' * 2000}", WORKS),
    ],
)
def test_process_without_an_answer_is_told_by_its_last_words(
    ends: Ends, code: int, errors: str, told: str, remedy: str
) -> None:
    ends.code, ends.errors = code, errors
    with pytest.raises(FatalError) as caught:
        ask_tensorflow("a.module", {}, ends.answer, 7.0)
    assert (caught.value.message, caught.value.remedy) == (told, remedy)


@pytest.mark.parametrize("code", [3, -signal.SIGKILL])
def test_answer_of_a_process_that_failed_after_it_is_none(ends: Ends, code: int) -> None:
    ends.code, ends.answers = code, True
    with pytest.raises(FatalError):
        ask_tensorflow("a.module", {}, ends.answer, 7.0)


def test_process_that_takes_too_long_is_told_with_its_time(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("python", 7.5)

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(FatalError) as caught:
        ask_tensorflow("a.module", {}, ends.answer, 7.5)
    assert caught.value.message == "the TensorFlow process took more than 7.5 s and was ended"
    assert caught.value.remedy == (
        "Ask for fewer batches or steps, or see whether the input waits for what never comes"
    )
