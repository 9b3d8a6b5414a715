"""Is bad input refused with exit code 2, a message that says what to do, and nothing written?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.commands import tfresume
from tests.graphs.library import CheckpointLibrary

pytestmark = [
    pytest.mark.tf,
    pytest.mark.turns(6),
]  # the checkpoints are made with TensorFlow; the refusals need none

INPUT = ("--input", "tests.end_to_end.inputs:mlp")


def _refused(output: Path, *words: str | Path) -> str:
    ended = tfresume("resume", *words, "--output", output)
    assert ended.code == 2, f"{ended.stdout}\n{ended.stderr}"
    assert not output.exists(), sorted(output.rglob("*"))
    assert "Traceback" not in ended.stderr
    return " ".join(ended.stderr.replace("\n", " ").split())


def test_resume_missing_source_is_named(tmp_path: Path) -> None:
    assert "nowhere" in _refused(tmp_path / "out", tmp_path / "nowhere.meta", "--steps", "1")


def test_resume_unreadable_meta_is_named(tmp_path: Path, tf1_checkpoint: CheckpointLibrary) -> None:
    prefix = tf1_checkpoint.copy(tmp_path / "copy", "mlp", optimizer="adam")
    Path(f"{prefix}.meta").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    )
    assert "LFS" in _refused(tmp_path / "out", f"{prefix}.meta", "--steps", "1")


def test_resume_unknown_train_op_lists_candidates(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    said = _refused(
        tmp_path / "out",
        tf1_checkpoint("mlp", optimizer="adam"),
        "--train-op",
        "Adamm",
        "--steps",
        "1",
        *INPUT,
    )
    assert "Adamm" in said
    assert "Adam" in said.replace("Adamm", "")


def test_resume_unfed_placeholders_are_listed_with_shape_and_dtype(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    said = _refused(tmp_path / "out", tf1_checkpoint("mlp", optimizer="adam"), "--steps", "1")
    for word in ("x:0", "y:0", "float32", "int64", "6"):
        assert word in said


def test_resume_bad_configuration_key_is_named_by_its_dotted_path(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    (tmp_path / "run.yaml").write_text("workers: {count: 2, standbye: 1}\n")
    said = _refused(
        tmp_path / "out",
        tf1_checkpoint("mlp", optimizer="adam"),
        "--config",
        tmp_path / "run.yaml",
        *INPUT,
    )
    assert "workers.standbye" in said


def test_resume_missing_input_module_is_named(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    said = _refused(
        tmp_path / "out",
        tf1_checkpoint("mlp", optimizer="adam"),
        "--steps",
        "1",
        "--input",
        "no_such_module:batches",
    )
    assert "no_such_module" in said


def test_resume_output_under_a_file_is_refused(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    (tmp_path / "file").write_text("not a directory")
    said = _refused(
        tmp_path / "file" / "out", tf1_checkpoint("mlp", optimizer="adam"), "--steps", "1", *INPUT
    )
    assert str(tmp_path / "file") in said


@pytest.mark.ray
def test_resume_more_workers_than_the_cluster_places_says_what_is_free(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint("mlp", optimizer="adam")
    said = _refused(
        tmp_path / "out",
        source,
        "--steps",
        "1",
        "--workers",
        "50",
        "--address",
        ray_address,
        *INPUT,
    )
    assert "50" in said
    assert "free" in said
