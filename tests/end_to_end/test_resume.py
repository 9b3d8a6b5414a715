"""Does `tfresume resume` continue a real TF1 run on Ray workers, into checkpoints that plain
TensorFlow goes on from?
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.end_to_end import inputs
from tests.end_to_end.commands import assert_close, plain_variables, resumed, tfresume
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.turns(32, "whole runs")]


@pytest.mark.parametrize(("workers", "batches"), [(1, "mlp"), (2, "mlp_by_tensorflow"), (3, "mlp")])
def test_resume_dense_graph_with_foreign_devices_equals_one_process(
    workers: int, batches: str, tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint("mlp", optimizer="momentum", resource=True, devices=True)
    output = tmp_path / "out"
    result = resumed(
        *(
            f"{source}.meta",
            "--output",
            output,
            "--workers",
            str(workers),
            "--until-step",
            "23",
            "--save-steps",
            "10",
        ),
        *("--input", f"tests.end_to_end.inputs:{batches}", "--address", ray_address),
    )
    assert (result["status"], result["start_step"], result["final_step"]) == ("done", 3, 23)
    assert result["world_size"] == workers
    assert result["incidents"] == []
    ours = plain_variables(result["checkpoint"], tmp_path)
    theirs = plain_variables(
        source, tmp_path, [inputs.joined("mlp", step, workers) for step in range(20)]
    )
    assert ours["global_step"] == theirs["global_step"] == 23
    assert_close(ours, theirs)
    steps = sorted(path.name for path in output.glob("a0001-g*/*.index"))
    assert steps == ["model.ckpt-10.index", "model.ckpt-20.index", "model.ckpt-23.index"]


def test_resume_second_run_of_the_same_command_goes_on(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint("mlp", optimizer="sgd")
    words = (
        source,
        "--output",
        tmp_path / "out",
        "--workers",
        "2",
        "--input",
        "tests.end_to_end.inputs:mlp",
        "--address",
        ray_address,
    )
    first = resumed(*words, "--until-step", "8")
    second = resumed(*words, "--until-step", "13")
    assert (second["start_step"], second["final_step"]) == (8, 13)
    whole = resumed(*words[:2], tmp_path / "whole", *words[3:], "--until-step", "13")
    ours, theirs = (
        plain_variables(second["checkpoint"], tmp_path),
        plain_variables(whole["checkpoint"], tmp_path),
    )
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    assert first["checkpoint"] != second["checkpoint"]


def test_resume_until_step_already_reached_starts_nothing(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    source = tf1_checkpoint("mlp", optimizer="sgd")
    ended = tfresume(
        "resume",
        source,
        "--output",
        tmp_path / "out",
        "--until-step",
        "3",
        "--input",
        "tests.end_to_end.inputs:mlp",
    )
    assert ended.code == 0
    assert "3" in ended.stderr + ended.stdout
    assert "reached" in ended.stderr + ended.stdout


def test_resume_other_source_for_used_output_is_refused_with_both_names(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    first, other = (
        tf1_checkpoint("mlp", optimizer="sgd"),
        tf1_checkpoint("mlp", optimizer="adagrad"),
    )
    words = (
        "--output",
        tmp_path / "out",
        "--until-step",
        "5",
        "--input",
        "tests.end_to_end.inputs:mlp",
        "--address",
        ray_address,
    )
    resumed(first, *words)
    before = sorted(path for path in (tmp_path / "out").rglob("*"))
    ended = tfresume("resume", other, *words)
    assert ended.code == 2
    assert str(first) in ended.stderr.replace("\n", "")
    assert str(other) in ended.stderr.replace("\n", "")
    assert sorted(path for path in (tmp_path / "out").rglob("*")) == before


@pytest.mark.parametrize("kind", ["conv_bn", "embedding", "lstm"])
def test_resume_kind_of_graph_trains_on_two_workers_and_plain_tensorflow_goes_on(
    kind: str, tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint(kind)
    result = resumed(
        *(source, "--output", tmp_path / "out", "--workers", "2", "--steps", "4"),
        *("--input", f"tests.end_to_end.inputs:{kind}", "--address", ray_address),
    )
    assert (result["final_step"], result["incidents"]) == (7, [])
    before, after = (
        plain_variables(source, tmp_path),
        plain_variables(result["checkpoint"], tmp_path),
    )
    assert set(before) == set(after)
    assert any(
        not np.array_equal(before[name], after[name]) for name in before if name != "global_step"
    )
    further = plain_variables(result["checkpoint"], tmp_path, [inputs.batch(kind, 100)])
    assert further["global_step"] == 8


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_resume_many_duplicate_rows_leaves_the_ranks_equal_to_the_last_bit(
    optimizer: str, tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint("embedding", optimizer=optimizer)
    result = resumed(
        *(
            source,
            "--output",
            tmp_path / "out",
            "--workers",
            "2",
            "--steps",
            "20",
            "--save-steps",
            "5",
        ),
        *("--input", "tests.end_to_end.inputs:many_rows", "--address", ray_address),
    )
    # A difference at a save would be an incident; that the weights grow is one too, and right: a
    # loss that is summed over two thousand rows is too steep for plain SGD
    others = [item for item in result["incidents"] if item["kind"] != "outlier"]
    assert (result["final_step"], others) == (23, [])


@pytest.mark.parametrize("kind", ["queue", "tfdata"])
def test_resume_pipeline_inside_the_graph_is_pulled_without_any_input_flag(
    kind: str, tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint(kind)
    result = resumed(
        source,
        "--output",
        tmp_path / "out",
        "--workers",
        "2",
        "--steps",
        "3",
        "--address",
        ray_address,
    )
    assert (result["final_step"], result["incidents"]) == (6, [])
    before, after = (
        plain_variables(source, tmp_path),
        plain_variables(result["checkpoint"], tmp_path),
    )
    assert any(
        not np.array_equal(before[name], after[name]) for name in before if name != "global_step"
    )


def test_resume_input_that_ends_on_one_rank_ends_the_run_with_whole_steps(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint("mlp", optimizer="sgd")
    result = resumed(
        *(source, "--output", tmp_path / "out", "--workers", "2", "--until-step", "100"),
        *("--input", "tests.end_to_end.inputs:ends_at_seven", "--address", ray_address),
    )
    assert result["final_step"] == 6
    theirs = plain_variables(source, tmp_path, [inputs.joined("mlp", step, 2) for step in range(3)])
    assert_close(plain_variables(result["checkpoint"], tmp_path), theirs)


def test_resume_arrays_are_fed_in_batches_and_go_on_where_they_were(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint("mlp", optimizer="sgd")
    rng = np.random.default_rng(1)
    np.savez(
        tmp_path / "train.npz",
        images=rng.normal(size=(50, 6)).astype(np.float32),
        labels=rng.integers(0, 3, 50),
    )
    data = tmp_path / "train.npz"
    feeds = (
        "--array",
        f"x:0={data}#images",
        "--array",
        f"y:0={data}#labels",
        "--batch-size",
        "4",
        "--address",
        ray_address,
    )
    resumed(source, "--output", tmp_path / "parts", "--workers", "2", "--until-step", "10", *feeds)
    parts = resumed(
        source, "--output", tmp_path / "parts", "--workers", "2", "--until-step", "20", *feeds
    )
    whole = resumed(
        source, "--output", tmp_path / "whole", "--workers", "2", "--until-step", "20", *feeds
    )
    ours, theirs = (
        plain_variables(parts["checkpoint"], tmp_path),
        plain_variables(whole["checkpoint"], tmp_path),
    )
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_resume_without_an_address_runs_a_ray_of_its_own_and_leaves_nothing_running(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:

    source = tf1_checkpoint("mlp", optimizer="sgd")
    marker = {"TFRESUME_TEST_MARKER": str(tmp_path)}
    result = resumed(
        *(
            source,
            "--output",
            tmp_path / "out",
            "--workers",
            "2",
            "--steps",
            "4",
            "--input",
            "tests.end_to_end.inputs:mlp",
        ),
        env=marker,
    )
    assert result["final_step"] == 7
    _, alive = psutil.wait_procs(_marked(str(tmp_path)), timeout=60)
    assert alive == []


def _marked(marker: str) -> list[psutil.Process]:

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TFRESUME_TEST_MARKER") == marker:
                found.append(process)
        except psutil.Error:
            continue
    return found
