"""Is a run evaluated beside it, whatever happens to the evaluator? Real processes, a real SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from orchestrator.store.objects.location import open_location
from orchestrator.store.run.evaluations import Evaluations
from orchestrator.store.run.lease import observe
from tests.end_to_end.commands import ROOT, tfresume
from tests.graphs.library import CheckpointLibrary

pytestmark = pytest.mark.turns(32, "whole runs")

WITHIN_S = 150.0
GATED = """
import runpy, time
from pathlib import Path

GATES = {{23: Path({gates!r}) / "a", 43: Path({gates!r}) / "b"}}

def batches(ctx):
    step = ctx.step
    for batch in runpy.run_path({inputs!r})["mlp"](ctx):
        gate, deadline = GATES.get(step), time.monotonic() + 240
        while gate is not None and not gate.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield batch
        step += 1

def heldout(ctx):
    numbers = range(ctx.position + ctx.rank, 3, ctx.world_size)
    return (runpy.run_path({inputs!r})["batch"]("mlp", 500 + number) for number in numbers)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts commands that are ended with the test."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*words: str | Path) -> subprocess.Popen[str]:
        own = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
        child = subprocess.Popen(
            [sys.executable, "-m", "launch.cli", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=own | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        )
        begun.append(child)
        return child

    yield begin
    for child in begun:
        if child.poll() is None:
            child.terminate()
            child.wait(60)
        if child.stdout is not None:
            child.stdout.close()


def until(true: Callable[[], bool], *alive: subprocess.Popen[str]) -> None:
    """Wait until something is true, as long as these processes live."""
    deadline = time.monotonic() + WITHIN_S
    while not true():
        for child in alive:
            assert child.poll() is None, child.stdout and child.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(child: subprocess.Popen[str]) -> str:
    """What a command said that has to end well."""
    said, _ = child.communicate(timeout=WITHIN_S)
    assert child.returncode == 0, said
    return said


@pytest.mark.tf
@pytest.mark.ray
@pytest.mark.slow
def test_evaluator_that_is_killed_goes_on_beside_its_run_and_keeps_the_best(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path, start: Start
) -> None:
    out, feeds = tmp_path / "out", tmp_path / "feeds.py"
    feeds.write_text(
        GATED.format(gates=str(tmp_path), inputs=str(Path(__file__).with_name("inputs.py")))
    )
    own = Evaluations(open_location(str(out)), "eval")
    evaluating = (
        "evaluate", out, "--follow", "--every-s", "0.2", "--input", f"{feeds}:heldout",
        "--fetch", "loss", "--keep-best", "loss:max",
    )  # fmt: skip
    first = start(*evaluating)
    run = start(
        "resume", tf1_checkpoint("mlp"), "--output", out, "--until-step", "83", "--save-steps", "20",
        "--max-to-keep", "1", "--input", f"{feeds}:batches", "--hang-floor-s", "600",
    )  # fmt: skip
    early, second = "a0001-g0001/model.ckpt-20", "a0001-g0001/model.ckpt-40"

    # It holds the first while the second is committed, which would leave one
    until(lambda: own.held() == early, first, run)
    (tmp_path / "a").touch()
    until(lambda: early in own.results() and own.held() == second, first, run)
    children = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.wait(60)
    _, living = psutil.wait_procs(children, timeout=WITHIN_S)
    assert not living, "TensorFlow ends with its evaluator"
    assert second not in own.results(), "the kill came too late to tell anything"

    again = start(*evaluating)
    until(lambda: second in own.results(), again, run)
    (tmp_path / "b").touch()
    ended(run)
    said = ended(again)
    assert "step 20:" not in said, "it was evaluated before"
    assert said.count("step 40:") == 1

    results = own.results()
    assert {early, second, "a0001-g0001/model.ckpt-83"} <= set(results)
    assert all((each.rows, each.batches) == (24, 3) for each in results.values())
    best = max(results.values(), key=lambda each: each.metrics["loss:0"])
    rows = {row["label"]: row["kept_for"] for row in checkpoints(out)}
    assert {best.label, "a0001-g0001/model.ckpt-83"} <= set(rows)
    assert second not in rows or second == best.label, "one of the newest is kept, and the best"
    assert rows[best.label].startswith("best loss:0 of eval")
    assert own.held() == ""
    assert observe(own.place).released

    shown = tfresume("evaluate", out, "--step", str(best.step), "--input", f"{feeds}:heldout",
                     "--fetch", "loss", "--json").json  # fmt: skip
    assert shown["metrics"] == best.metrics
    assert shown["weighted_by"] == "rows"
    events = [
        (event.step, value.tag)
        for file in sorted((out / "_tfresume" / "events" / "eval").iterdir())
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
    ]
    assert events == sorted((each.step, "evaluate/loss:0") for each in results.values())
    page = tmp_path / "page.html"
    assert tfresume("report", out, "-o", page).code == 0
    assert "by loss:0" in page.read_text()


def checkpoints(out: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = tfresume("checkpoints", out, "--json").json["checkpoints"]
    return found


@pytest.mark.slow
def test_evaluator_that_is_interrupted_leaves_nothing_and_a_second_of_its_name_is_refused(
    tmp_path: Path, start: Start
) -> None:
    out = tmp_path / "out"
    own = Evaluations(open_location(str(out)), "eval")
    words = ("evaluate", out, "--follow", "--every-s", "0.2", "--feed", "x=1", "--json")
    first = start(*words)
    until(lambda: bool(observe(own.place).sight.beat), first)
    second = tfresume(*words)
    assert second.code == 2
    assert "--name" in second.json["error"]["remedy"]
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=WITHIN_S)
    assert first.returncode == 130, said
    assert json.loads(said[said.index("{") :])["status"] == "stopped"
    assert observe(own.place).released
    assert own.held() == ""
