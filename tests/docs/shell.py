"""How is a page's block run as a reader would type it? In a directory with the page's own files,
against a bucket that is a directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.docs.pages import ROOT, Block, all_blocks
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary

TIMEOUT_S = 240
SHORTER = {
    "model.ckpt-11000": "model.ckpt-3",
    "snapshot-103000": "snapshot-3",
    "--until-step 20000": "--until-step 6",
    "--save-steps 500": "--save-steps 2",
    "--workers 4 ": "--workers 2 --workers.cpus 0.5 ",
}
"""A run of three steps stands for one of eleven thousand."""


def make_bucket(checkpoints: CheckpointLibrary, directory: Path) -> Path:
    """What ``gs://bucket`` holds in the documentation: a run and its training set."""
    bucket = directory / "bucket"
    checkpoints.copy(bucket / "run", "mlp", optimizer="adam")
    rng = np.random.default_rng(0)
    np.savez(
        bucket / "train.npz",
        images=rng.normal(size=(64, 6)).astype(np.float32),
        labels=rng.integers(0, 3, 64),
    )
    return bucket


def make_pipeline(checkpoints: CheckpointLibrary, bucket: Path) -> dict[str, str]:
    """A run that reads its own files, which have moved to ``gs://bucket/data``; where its graph has
    them, by the pages' name for it.
    """
    prefix = checkpoints("csv_lines")
    shutil.copytree(prefix.parent, bucket / "pipeline", ignore=shutil.ignore_patterns("data"))
    shutil.copytree(prefix.parent / "data", bucket / "data")
    return {"/old/cluster/data": str(prefix.parent / "data")}


def make_holders(checkpoints: CheckpointLibrary, bucket: Path) -> None:
    """Checkpoints such as holders of DeepLabCut, DeePMD-kit and BERT models have them, and batches
    for them.
    """
    for kind, name in (
        ("deeplabcut", "snapshot"),
        ("deepmd", "model.ckpt"),
        ("bert", "model.ckpt"),
    ):
        checkpoints.copy(bucket / kind, kind, name=name)
        rows = [feeds_for(kind)(step) for step in range(8)]
        for key in rows[0]:
            if rows[0][key].ndim:
                np.save(
                    bucket / kind / f"{key.partition(':')[0]}.npy",
                    np.concatenate([row[key] for row in rows]),
                )


def shell(
    block: Block, bucket: Path, directory: Path, changes: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a block with ``gs://bucket`` at ``bucket`` and the pages' files in ``directory``;
    ``changes`` are made to its text.
    """
    text = block.text.replace("gs://bucket", str(bucket))
    for theirs, ours in {**SHORTER, **(changes or {})}.items():
        text = text.replace(theirs, ours)
    for file in all_blocks("python"):
        if file.mark == "file":
            (directory / file.value).write_text(file.text)
    for name in ("configs", "k8s"):
        (directory / name).symlink_to(ROOT / name)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": path,
        "HOME": str(directory),
        "COLUMNS": "160",
        "PYTHONWARNINGS": "ignore",
    }
    command = ["bash", "-euo", "pipefail", "-c", text]
    return subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
