"""What becomes of a run whose state isn't finite any more? Real workers, real NaN, each of the
three policies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.driver.result import RunResult
from tests.chaos.conftest import assert_same_bytes
from tests.chaos.runs import INPUTS, Watcher, config_for, play, variables_of

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.chaos]

POISONED = """
import runpy
from pathlib import Path

def batches(ctx):
    # The same batches as ever, but for one of them, once: rank 0's in step 25
    once, step = Path({marker!r}), ctx.step
    for batch in runpy.run_path({inputs!r})["fast_batches"](ctx):
        if step == 25 and ctx.rank == 0 and not once.exists():
            once.touch()
            batch = {{**batch, "x:0": batch["x:0"] * float("nan")}}
        yield batch
        step += 1
"""


def poisoned(
    tmp_path: Path, source: Path, policy: str, until_step: int
) -> tuple[RunResult, Watcher]:
    """A run on two workers that saves every ten steps; one of its batches is NaN."""
    module = tmp_path / "poison.py"
    module.write_text(POISONED.format(marker=str(tmp_path / "served"), inputs=str(INPUTS)))
    changes: dict[str, Any] = {
        "input": f"{module}:batches",
        "save_steps": 10,
        "until_step": until_step,
        "workers": 2,
        "prove": False,
    }
    result, watcher = play(config_for(source, tmp_path / "out", on_nonfinite=policy, **changes))
    assert (tmp_path / "served").exists()
    return result, watcher


def committed(watcher: Watcher) -> list[str]:
    return [str(event["checkpoint"]) for event in watcher.named("save_committed")]


def test_state_that_is_not_finite_stops_the_run_and_keeps_the_last_good(
    tmp_path: Path, tf1_checkpoint: Any, cluster: str
) -> None:
    result, watcher = poisoned(tmp_path, tf1_checkpoint("mlp"), "stop", 60)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error["kind"] == "NonFinite"
    assert committed(watcher)[-1] == "a0001-g0001/model.ckpt-20"
    assert str(result.checkpoint).endswith("a0001-g0001/model.ckpt-20")


def test_state_that_is_not_finite_is_rolled_back_and_ends_as_if_it_had_never_been(
    tmp_path: Path, tf1_checkpoint: Any, cluster: str, undisturbed: dict[str, np.ndarray]
) -> None:
    result, watcher = poisoned(tmp_path, tf1_checkpoint("mlp"), "rollback", 120)
    assert result.status == "done", result
    labels = committed(watcher)
    at = labels.index("a0001-g0001/model.ckpt-20")
    # The step that was refused is saved again, in a directory of its own
    assert labels[at + 1].partition("/")[2] == "model.ckpt-30"
    assert labels[at + 1].partition("/")[0] > "a0001-g0001"
    assert_same_bytes(variables_of(Path(str(result.checkpoint))), undisturbed)


def test_state_that_is_not_finite_is_saved_where_that_is_wanted(
    tmp_path: Path, tf1_checkpoint: Any, cluster: str
) -> None:
    result, watcher = poisoned(tmp_path, tf1_checkpoint("mlp"), "ignore", 40)
    assert result.status == "done", result
    assert "a0001-g0001/model.ckpt-30" in committed(watcher)
    last = variables_of(Path(str(result.checkpoint)))
    assert any(np.isnan(value).any() for value in last.values() if value.dtype.kind == "f")
