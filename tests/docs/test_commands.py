"""Does every command in the documentation do what the page says it does? Each block is run as a reader would type it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.store.location import open_location
from tests.docs.pages import ROOT, Block, all_blocks
from tests.graphs.library import CheckpointLibrary
from tests.launch.runs import recorded_run

TIMEOUT_S = 240
SHORTER = {
    "model.ckpt-11000": "model.ckpt-3",
    "--until-step 20000": "--until-step 6",
    "--save-steps 500": "--save-steps 2",
    "--workers 4 ": "--workers 2 --workers.cpus 0.5 ",
}
"""A run of three steps stands for one of eleven thousand."""


def _cases() -> list[object]:
    found: list[object] = []
    for block in all_blocks("sh"):
        marks = [pytest.mark.ray, pytest.mark.tf] if block.value == "ray" else [pytest.mark.tf]
        marks += [pytest.mark.skip(reason=f"{block.label}: {block.skip_reason}")] if block.skip_reason else []
        found.append(pytest.param(block, id=block.label, marks=marks))
    return found


@pytest.fixture
def bucket(tmp_path: Path, tf1_checkpoint: CheckpointLibrary) -> Path:
    """What ``gs://bucket`` holds in the documentation: a run, its training set, and what a resumption of it left."""
    bucket = tmp_path / "bucket"
    tf1_checkpoint.copy(bucket / "run", "mlp", optimizer="adam")
    rng = np.random.default_rng(0)
    np.savez(bucket / "train.npz", images=rng.normal(size=(64, 6)).astype(np.float32), labels=rng.integers(0, 3, 64))
    return bucket


def _shell(block: Block, bucket: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    text = block.text.replace("gs://bucket", str(bucket))
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    for file in all_blocks("python"):
        if file.mark == "file":
            (directory / file.value).write_text(file.text)
    (directory / "configs").symlink_to(ROOT / "configs")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "HOME": str(directory), "COLUMNS": "160", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("block", _cases())
def test_command_in_the_documentation_ends_as_the_page_says(block: Block, bucket: Path, tmp_path: Path) -> None:
    if not {"resume", "submit"} & {words[1] for words in block.commands if words[0] == "tfresume" and len(words) > 1}:
        recorded_run(open_location(str(bucket / "resumed"))).release()
    directory = tmp_path / "here"
    directory.mkdir()
    done = _shell(block, bucket, directory)
    assert done.returncode in block.exit_codes, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
