"""Kills that land in a stated phase of a step, set off by the input function of the run itself: it knows exactly where it is.

``feed``: rank 1 dies while it makes its batch, with rank 0 waiting inside the exchange. ``exchange``: rank 0 is killed inside the step,
after its forward pass, while rank 1 still makes its batch. ``first step``: the same in the first step of a generation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chaos.batches import __file__ as BATCHES
from tests.chaos.conftest import assert_same_bytes
from tests.chaos.runs import config_for, play, variables_of

pytestmark = [pytest.mark.ray, pytest.mark.tf, pytest.mark.chaos]

INPUT = """
import importlib.util, os, pathlib, signal, time

HERE, PHASE, NUMBER = pathlib.Path({here!r}), {phase!r}, {number}
spec = importlib.util.spec_from_file_location("chaos_batches", {batches!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


def once(text):
    try:
        with open(HERE / "fired", "x") as file:
            file.write(text)
        return True
    except FileExistsError:
        return False


def standby_is_warm():
    return (HERE / "warm").exists()


def batches(ctx):
    number = ctx.position + ctx.rank
    for batch in module.batches(ctx):
        due = number // ctx.world_size == NUMBER and not (HERE / "fired").exists()
        if due and ctx.rank == 0:
            (HERE / "rank0").write_text(str(os.getpid()))
        if due and ctx.rank == 1:
            while not ((HERE / "rank0").exists() and standby_is_warm()):
                time.sleep(0.01)
            time.sleep(0.3)  # rank 0 has its batch and is inside the step by now
            if PHASE == "feed" and once("feed"):
                os.kill(os.getpid(), signal.SIGKILL)
            if PHASE == "exchange" and once("exchange"):
                os.kill(int((HERE / "rank0").read_text()), signal.SIGKILL)
        yield batch
        number += ctx.world_size
"""


@pytest.mark.parametrize(("phase", "number", "rank"), [("feed", 30, 1), ("exchange", 30, 0), ("exchange", 0, 0)])
def test_kill_in_a_stated_phase_loses_no_step(
    phase: str, number: int, rank: int, cluster: str, tf1_checkpoint: Any, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    inputs = tmp_path / "phase.py"
    inputs.write_text(INPUT.format(here=str(tmp_path), phase=phase, number=number, batches=BATCHES))

    def tell_when_warm(watcher: Any, kind: str, event: Any) -> None:
        if kind == "worker_warm" and len(watcher.pids) == 3:
            (tmp_path / "warm").touch()

    config = config_for(tf1_checkpoint("mlp"), tmp_path / "out", input=f"{inputs}:batches", hang_floor_s=20.0)
    result, watcher = play(config, tell_when_warm)
    assert (tmp_path / "fired").read_text() == phase, "the kill didn't land in its phase"
    assert result.status == "done", result
    assert [(item["kind"], item["rank"], item["steps_redone"]) for item in result.incidents] == [("died", rank, 0)]
    resumed = [event["step"] for event in watcher.named("generation")]
    assert resumed == [3, 3 + number], "the step that was under way when the worker died was done once, afterwards"
    assert_same_bytes(undisturbed, variables_of(Path(str(result.checkpoint))))
