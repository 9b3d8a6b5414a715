"""Is a run evaluated as a job of a real server, from a directory that the job doesn't have, and
does an evaluator that follows a run survive a kill there?
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from launch.cli import run
from launch.jobs.server import JobServer
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.evaluations import Evaluations
from orchestrator.store.run.lease import observe
from tests.graphs.library import CheckpointLibrary

WITHIN_S = 240.0
pytestmark = [
    pytest.mark.ray,
    pytest.mark.tf,
    pytest.mark.slow,
    pytest.mark.turns(32, "whole runs"),
]

HELDOUT = """
import numpy as np


def batches(ctx):
    for number in range(ctx.position + ctx.rank, 3, ctx.world_size):
        x = np.random.default_rng(number).normal(size=(8, 6)).astype(np.float32)
        yield {"x:0": x, "y:0": np.argmax(x[:, :3], axis=1)}
"""


def test_evaluation_is_done_by_a_job_with_the_input_function_of_this_directory(
    tf1_checkpoint: CheckpointLibrary,
    job_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "heldout.py").write_text(HELDOUT)
    monkeypatch.chdir(tmp_path)
    source = os.path.relpath(tf1_checkpoint("mlp"))
    words = ["evaluate", source, "--fetch", "loss", "--input", "heldout.py:batches"]

    def submitted(*more: str) -> str:
        capsys.readouterr()
        assert run([*words, "--workers.cpus", "0.5", "--address", job_server, "--json", *more]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["status"] == "submitted", "another question is another job"
        return str(answer["job"])

    server = JobServer(job_server)
    for job, rows in ((submitted(), 24), (submitted("--batches", "2"), 16)):
        said: list[str] = []
        state = server.follow(job, said.append)
        assert (state.status, state.exit_code) == ("SUCCEEDED", 0), "".join(said)
        assert f"weighted by their {rows} rows" in "".join(said)
        assert "loss:0  " in "".join(said)


FOLLOWED = """
import time
from pathlib import Path

import numpy as np

HERE = Path({here!r})
GATES = {{23: HERE / "beyond 20", 43: HERE / "beyond 40"}}
HELD = {{20: HERE / "let go of 20", 40: HERE / "let go of 40"}}


def wait_for(gate):
    deadline = time.monotonic() + 240
    while gate is not None and not gate.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def batch(number):
    x = np.random.default_rng(number).normal(size=(8, 6)).astype(np.float32)
    return {{"x:0": x, "y:0": np.argmax(x[:, :3], axis=1)}}


def batches(ctx):
    step = ctx.step
    while True:
        wait_for(GATES.get(step))
        yield batch(step)
        step += 1


def heldout(ctx):
    for number in range(ctx.position + ctx.rank, 3, ctx.world_size):
        wait_for(HELD.get(ctx.step))
        yield batch(500 + number)
    with (HERE / "gone through").open("a") as log:
        log.write(f"{{ctx.step}}\\n")
"""
EARLY, SECOND, LAST = (f"a0001-g0001/model.ckpt-{step}" for step in (20, 40, 83))


def test_evaluator_as_a_job_that_is_killed_comes_back_by_itself_and_evaluates_each_checkpoint_once(
    tf1_checkpoint: CheckpointLibrary,
    job_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "feeds.py").write_text(FOLLOWED.format(here=str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    out, server = open_location(str(tmp_path / "out")), JobServer(job_server)
    own = Evaluations(out, "eval")

    def submitted(*words: str) -> tuple[str, str]:
        capsys.readouterr()
        assert run([*words, "--address", job_server, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        return str(answer["status"]), str(answer["job"])

    evaluator = (
        "evaluate", "out", "--follow", "--every-s", "0.2", "--input", "feeds.py:heldout",
        "--fetch", "loss", "--keep-best", "loss:max", "--workers.cpus", "0.5",
    )  # fmt: skip
    _, evaluating = submitted(*evaluator)
    assert submitted(*evaluator) == ("attached", evaluating)
    _, training = submitted(
        "submit", str(tf1_checkpoint("mlp")), "--output", "out", "--until-step", "83",
        "--save-steps", "20", "--max-to-keep", "1", "--input", "feeds.py:batches",
        "--hang-floor-s", "600",
    )  # fmt: skip

    def happens(true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not true():
            for job in (evaluating, training):
                assert server.state(job).status in ("PENDING", "RUNNING", "SUCCEEDED"), server.logs(
                    job
                )[-3000:]
            assert time.monotonic() < deadline, server.logs(evaluating)[-3000:]
            time.sleep(0.1)

    def there() -> set[str]:
        return {item.label for item in list_checkpoints(out)}

    happens(lambda: own.held() == EARLY)
    (tmp_path / "beyond 20").touch()
    happens(lambda: SECOND in there())
    assert EARLY in there(), "retention, which keeps one, deletes nothing that is being read"
    (tmp_path / "let go of 20").touch()
    happens(lambda: EARLY in own.results() and own.held() == SECOND)

    first = observe(own.place).holder
    assert first is not None
    victim = psutil.Process(first.pid)
    victim.kill()
    psutil.wait_procs([victim], timeout=WITHIN_S)
    assert not victim.is_running(), "the kill has fired"
    assert SECOND not in own.results(), "the kill came too late to tell anything"

    def is_back() -> bool:
        now = observe(own.place).holder
        return now is not None and now.attempt == first.attempt + 1 and now.pid != first.pid

    happens(lambda: is_back() and own.held() == SECOND)
    (tmp_path / "let go of 40").touch()
    happens(lambda: SECOND in own.results())
    (tmp_path / "beyond 40").touch()

    for job in (training, evaluating):
        said: list[str] = []
        state = server.follow(job, said.append)
        assert (state.status, state.exit_code) == ("SUCCEEDED", 0), "".join(said)[-3000:]
    told = "".join(said)
    assert "the evaluator died" in told
    results = own.results()
    assert {EARLY, SECOND, LAST} <= set(results)
    # Of the evaluation that was killed no batch but the first was asked for
    gone_through = (tmp_path / "gone through").read_text().split()
    assert sorted(gone_through) == sorted(str(each.step) for each in results.values())
    assert [told.count(f"step {each.step}:") for each in results.values()] == [1] * len(results)
    best = max(results.values(), key=lambda each: each.metrics["loss:0"])
    kept = own.best()
    assert kept is not None
    assert kept.label == best.label
    worse = min((EARLY, SECOND), key=lambda label: results[label].metrics["loss:0"])
    assert {best.label, LAST} <= there()
    assert worse not in there(), "what was read is let go of, and the next save deletes it"
    assert own.held() == ""
    assert observe(own.place).released
