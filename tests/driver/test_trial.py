"""Does a trial get all that it needs wherever it runs, and is its end told as what it was?"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from orchestrator.config import parse_config
from orchestrator.driver import trial
from orchestrator.driver.trial import MODULE, WITHIN_S, Asker, ask, asked_of_ray
from orchestrator.store.objects.private import private_directory


class Child:
    """A process that ends as it's told to."""

    def __init__(self) -> None:
        self.returncode, self.errors = 0, ""
        self.answer: dict[str, Any] | None = {"how": "joint"}
        self.hangs = False
        self.command: list[str] = []
        self.how: dict[str, Any] = {}
        self.task: dict[str, Any] = {}
        self.done: list[Any] = []

    def begun(self, command: list[str], **how: Any) -> Child:
        self.command, self.how = command, how
        self.task = pickle.loads(Path(command[3]).read_bytes())
        return self

    def communicate(self, timeout: float | None = None) -> tuple[None, str]:
        self.done.append(timeout)
        if self.hangs and timeout is not None:
            raise subprocess.TimeoutExpired("python", timeout)
        if self.answer is not None:
            Path(self.command[4]).write_text(json.dumps(self.answer))
        return None, self.errors

    def kill(self) -> None:
        self.done.append("killed")


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    found = Child()
    fake = SimpleNamespace(
        Popen=found.begun,
        DEVNULL=subprocess.DEVNULL,
        PIPE=subprocess.PIPE,
        TimeoutExpired=subprocess.TimeoutExpired,
    )
    monkeypatch.setattr(trial, "subprocess", fake)
    return found


TASK = pickle.dumps({"step": 3})


@pytest.mark.parametrize("asks", [ask, Asker().ask])
def test_trial_runs_in_a_process_that_finds_what_its_driver_finds(
    child: Child, monkeypatch: pytest.MonkeyPatch, asks: Callable[[bytes], Any]
) -> None:
    monkeypatch.setattr(sys, "path", ["/one", "", "/two"])
    monkeypatch.setenv("OF_THE_USER", "1")
    assert asks(TASK) == {"how": "joint"}
    python, dash_m, module, given, answer, owner = child.command
    assert (python, dash_m, module, owner) == (sys.executable, "-m", MODULE, str(os.getpid()))
    assert not Path(given).exists()  # nor anything else of it, once it's over
    assert Path(given).parent == Path(answer).parent
    assert child.task == {"step": 3, "cache": private_directory("tfresume-cache")}
    assert child.how["env"]["PYTHONPATH"] == os.pathsep.join(["/one", "/two"])
    assert child.how["env"]["OF_THE_USER"] == "1"
    # What it prints is nobody's, and what it says when it dies is told
    assert (child.how["stdout"], child.how["stderr"]) == (subprocess.DEVNULL, subprocess.PIPE)
    assert child.how["text"] is True
    assert child.done == [WITHIN_S]


def test_process_is_told_to_who_may_want_to_end_it(child: Child) -> None:
    begun: list[Any] = []
    ask(TASK, begun.append)
    assert begun == [child]


def test_trial_that_takes_too_long_is_ended_and_says_so(child: Child) -> None:
    child.hangs, child.answer = True, None
    assert ask(TASK) == {"how": "none", "reason": "it took more than 600 s"}
    assert child.done == [WITHIN_S, "killed", None]


@pytest.mark.parametrize(
    ("code", "errors", "answers", "reason"),
    [
        (
            -signal.SIGKILL,
            "words",
            True,
            "the process that tried it was killed, most likely for its memory",
        ),
        (1, "first\nlast\n", True, "the process that tried it died with code 1: last"),
        (1, "", False, "the process that tried it died with code 1: without a word"),
        (0, " \n", False, "the process that tried it died with code 0: without a word"),
    ],
)
def test_trial_without_an_answer_proves_nothing_and_says_why(
    child: Child, code: int, errors: str, answers: bool, reason: str
) -> None:
    child.returncode, child.errors = code, errors
    child.answer = {"how": "joint"} if answers else None
    assert ask(TASK) == {"how": "none", "reason": reason}


class FakeRay:
    """Ray, as far as one actor is asked one thing."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: list[Any] = []
        self.fails: Exception | None = None
        self.actor = SimpleNamespace(ask=SimpleNamespace(remote=lambda task: ("asked", task)))
        for name in ("remote", "get", "kill"):
            patch.setattr(ray, name, getattr(self, name))

    def remote(self, **needs: Any) -> Callable[[type], Any]:
        self.done.append(needs)

        def made(kind: type) -> Any:
            assert kind is Asker
            return SimpleNamespace(remote=lambda: self.actor)

        return made

    def get(self, ref: tuple[str, bytes], *, timeout: float) -> dict[str, Any]:
        said, task = ref
        self.done.append((said, pickle.loads(task), timeout))
        if self.fails is not None:
            raise self.fails
        return {"how": "joint"}

    def kill(self, actor: Any, *, no_restart: bool) -> None:
        assert actor is self.actor
        self.done.append(f"killed{' for good' if no_restart else ''}")


CONFIG = parse_config({"source": "s", "workers": {"cpus": 2.0, "gpus": 0.5}})


def test_trial_where_the_workers_will_be_has_a_workers_resources_and_ends_with_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeRay(monkeypatch)
    assert asked_of_ray({"step": 3}, CONFIG) == {"how": "joint"}
    assert fake.done == [
        {"num_cpus": 2.0, "num_gpus": 0.5, "max_restarts": 0},
        ("asked", {"step": 3}, WITHIN_S),
        "killed for good",
    ]


@pytest.mark.parametrize("error", [ray.exceptions.GetTimeoutError("late"), KeyError("x")])
def test_actor_that_fails_is_ended_and_proves_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fake = FakeRay(monkeypatch)
    fake.fails = error
    if isinstance(error, KeyError):
        with pytest.raises(KeyError):
            asked_of_ray({}, CONFIG)
    else:
        reason = "the actor that tried it failed: late"
        assert asked_of_ray({}, CONFIG) == {"how": "none", "reason": reason}
    assert fake.done[-1] == "killed for good"
