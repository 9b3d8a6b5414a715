"""Does ``check`` refuse whatever ``resume`` would?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from launch.cli import run
from tests.graphs.library import CheckpointLibrary

FEEDS = "def batches(ctx): ...\n"


@pytest.fixture
def feeds(tmp_path: Path) -> str:
    (tmp_path / "feeds.py").write_text(FEEDS)
    np.save(tmp_path / "short.npy", np.zeros([3, 4], np.float32))
    np.save(tmp_path / "long.npy", np.zeros([5], np.int64))
    return f"{tmp_path}/feeds.py"


@pytest.mark.tf
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--input", "FEEDS:nothing"], "input"),
        (["--input", "FEEDS:batches", "--feed", "y:0=many"], "unfit-feed"),
        (["--input", "FEEDS:batches", "--watch", "lost:0"], "unknown-tensor"),
        (
            ["--array", "x:0=DIR/absent.npy", "--array", "y:0=DIR/long.npy", "--batch-size", "2"],
            "unfit-array",
        ),
        (
            ["--array", "x:0=DIR/short.npy", "--array", "y:0=DIR/long.npy", "--batch-size", "2"],
            "unfit-array",
        ),
        (["--input", "FEEDS:batches", "--workers", "1000"], "no-room"),
    ],
)
def test_check_and_resume_refuse_the_same(
    words: list[str],
    code: str,
    feeds: str,
    tf1_checkpoint: CheckpointLibrary,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [word.replace("FEEDS", feeds).replace("DIR", str(tmp_path)) for word in words]
    words = [str(tf1_checkpoint("mlp")), "--output", str(tmp_path / "out"), "--steps", "5", *words]
    assert run(["check", *words, "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [item["code"] for item in problems if item["severity"] == "error"] == [code]
    assert run(["resume", *words, "--dry-run"]) == 2
    assert unmeasured(problems[0]["message"]) in unmeasured(capsys.readouterr().err)


def unmeasured(text: str) -> str:
    """In one line, without the free memory, which is another one each time that it's asked for."""
    return re.sub(r"[\d.]+ GB of free", "_ GB of free", text.replace("\n", " "))


@pytest.mark.tf
def test_check_without_an_end_refuses_a_run_and_passes_a_source(
    feeds: str,
    tf1_checkpoint: CheckpointLibrary,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["check", str(tf1_checkpoint("mlp")), "--input", f"{feeds}:batches"]
    assert run(words) == 0
    assert "no-end" in capsys.readouterr().out
    assert run([*words, "--output", str(tmp_path / "out")]) == 2
