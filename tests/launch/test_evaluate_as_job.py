"""Is a run evaluated as a job of a real server, from a directory that the job doesn't have?"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from launch.cli import run
from launch.jobs.server import JobServer
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.ray, pytest.mark.tf, pytest.mark.slow, pytest.mark.turns(2)]

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
