"""What becomes of a run whose state isn't finite any more, or jumped? Real workers, a real batch of
bad numbers, each of the policies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch.runs.status import status
from orchestrator.driver.result import RunResult
from tests.chaos.conftest import assert_same_bytes
from tests.chaos.runs import INPUTS, Watcher, config_for, play, variables_of

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.chaos, pytest.mark.turns(8, "losses")]

POISONED = """
import runpy
from pathlib import Path

def batches(ctx):
    # The same batches as ever, but for one of them, once: rank 0's in step 25
    once, step = Path({marker!r}), ctx.step
    for batch in runpy.run_path({inputs!r})["fast_batches"](ctx):
        if step == 25 and ctx.rank == 0 and not once.exists():
            once.touch()
            batch = {{**batch, "x:0": batch["x:0"] * float({times!r})}}
        yield batch
        step += 1
"""


def poisoned(
    tmp_path: Path, source: Path, until_step: int, times: str = "nan", **policy: str
) -> tuple[RunResult, Watcher]:
    """A run on two workers that saves every ten steps; one of its batches is multiplied."""
    module = tmp_path / "poison.py"
    module.write_text(
        POISONED.format(marker=str(tmp_path / "served"), inputs=str(INPUTS), times=times)
    )
    changes: dict[str, Any] = {
        "input": f"{module}:batches",
        "save_steps": 10,
        "until_step": until_step,
        "workers": 2,
        "prove": False,
    }
    result, watcher = play(config_for(source, tmp_path / "out", **policy, **changes))
    assert (tmp_path / "served").exists()
    return result, watcher


def committed(watcher: Watcher) -> list[str]:
    return [str(event["checkpoint"]) for event in watcher.named("save_committed")]


def test_state_that_is_not_finite_stops_the_run_and_keeps_the_last_good(
    tmp_path: Path, tf1_checkpoint: Any, cluster: str
) -> None:
    result, watcher = poisoned(tmp_path, tf1_checkpoint("mlp"), 60, on_nonfinite="stop")
    assert result.status == "failed"
    assert result.error is not None
    assert result.error["kind"] == "NonFinite"
    assert committed(watcher)[-1] == "a0001-g0001/model.ckpt-20"
    assert str(result.checkpoint).endswith("a0001-g0001/model.ckpt-20")


def test_state_that_is_not_finite_is_rolled_back_and_ends_as_if_it_had_never_been(
    tmp_path: Path, tf1_checkpoint: Any, cluster: str, undisturbed: dict[str, np.ndarray]
) -> None:
    result, watcher = poisoned(tmp_path, tf1_checkpoint("mlp"), 120, on_nonfinite="rollback")
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
    result, watcher = poisoned(tmp_path, tf1_checkpoint("mlp"), 40, on_nonfinite="ignore")
    assert result.status == "done", result
    assert "a0001-g0001/model.ckpt-30" in committed(watcher)
    last = variables_of(Path(str(result.checkpoint)))
    assert any(np.isnan(value).any() for value in last.values() if value.dtype.kind == "f")


def test_state_that_jumped_is_an_incident_of_a_run_that_goes_on(
    tmp_path: Path, tf1_checkpoint: Any, cluster: str
) -> None:
    """Adam's weights don't follow one huge gradient, its slots of squares do."""
    result, watcher = poisoned(tmp_path, tf1_checkpoint("mlp"), 50, times="1e12")
    assert result.status == "done", result
    assert "a0001-g0001/model.ckpt-30" in committed(watcher)
    jumped = watcher.named("variable_jumped")
    assert {event["step"] for event in jumped} == {30}
    assert "hidden/kernel/Adam_1" in {str(event["variable"]) for event in jumped}
    assert [incident["kind"] for incident in result.incidents] == ["outlier"]
    (told,) = status(str(tmp_path / "out")).incidents
    assert (told["kind"], told["action"]) == ("outlier", "committed all the same")
    assert "Adam_1" in told["reason"]


def test_state_that_jumped_is_rolled_back_where_that_is_wanted(
    tmp_path: Path, tf1_checkpoint: Any, cluster: str, undisturbed: dict[str, np.ndarray]
) -> None:
    result, watcher = poisoned(
        tmp_path, tf1_checkpoint("mlp"), 120, times="1e12", on_outlier="rollback"
    )
    assert result.status == "done", result
    assert [incident["kind"] for incident in result.incidents] == ["outlier"]
    assert len({label for label in committed(watcher) if label.endswith("ckpt-30")}) == 1
    assert_same_bytes(variables_of(Path(str(result.checkpoint))), undisturbed)
