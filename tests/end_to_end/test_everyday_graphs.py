"""Do graphs train that are written as everybody writes them, and as nobody should?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import inputs
from tests.end_to_end.commands import assert_close, plain_variables, resumed
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.turns(32, "whole runs")]

INPUT = ("--input", "tests.end_to_end.inputs:mlp")


@pytest.mark.parametrize("workers", [1, 2])
def test_loss_that_is_also_a_summary_trains_past_the_step_that_shows_both_beside_one_that_nothing_feeds(
    workers: int, tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint("mlp", optimizer="sgd", summary=True)
    result = resumed(
        *(
            source,
            "--output",
            tmp_path / "out",
            "--workers",
            str(workers),
            "--steps",
            "23",
            *INPUT,
            "--address",
            ray_address,
        ),
        *("--watch", "loss:0", "--watch", "validation:0"),
    )
    assert (result["status"], result["final_step"], result["incidents"]) == ("done", 26, [])
    theirs = plain_variables(
        source, tmp_path, [inputs.joined("mlp", step, workers) for step in range(23)]
    )
    assert_close(plain_variables(result["checkpoint"], tmp_path), theirs)


@pytest.mark.parametrize(
    "options",
    [{"version": 1}, {"step": "Variable_10", "number": 50}, {"step": "as_float"}],
    ids=["V1 format", "counter unlike the file's name", "counts in float32"],
)
def test_old_ways_to_save_and_to_count_equal_one_process_and_load_in_plain_tensorflow(
    options: dict[str, Any], tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint("mlp", optimizer="adam", **options)
    result = resumed(
        source,
        "--output",
        tmp_path / "out",
        "--workers",
        "2",
        "--steps",
        "4",
        *INPUT,
        "--address",
        ray_address,
    )
    assert (result["status"], result["start_step"], result["final_step"], result["incidents"]) == (
        "done",
        3,
        7,
        [],
    )
    theirs = plain_variables(source, tmp_path, [inputs.joined("mlp", step, 2) for step in range(4)])
    assert_close(plain_variables(result["checkpoint"], tmp_path), theirs)


def test_step_that_counts_examples_is_saved_past_each_number_that_is_due_and_at_the_end(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    """Such a run never ended and never saved: no step had just the number that was agreed on."""
    source = tf1_checkpoint("examples")
    words = ("--workers", "2", "--until-step", "100", "--save-steps", "30", *INPUT)
    out = tmp_path / "out"
    result = resumed(source, "--output", out, *words, "--address", ray_address)
    assert (result["status"], result["start_step"], result["final_step"], result["incidents"]) == (
        "done",
        24,
        104,
        [],
    )
    saved = sorted(int(path.stem.rpartition("-")[2]) for path in out.glob("a0001-g*/*.index"))
    assert saved == [40, 72, 104]
    theirs = plain_variables(source, tmp_path, [inputs.joined("mlp", step, 2) for step in range(5)])
    assert_close(plain_variables(result["checkpoint"], tmp_path), theirs)
