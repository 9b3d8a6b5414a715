"""Does the script do all of it, from wheels in parts to the report, with the CPU in place of the
GPU?

``make gpu-dry-run`` runs every part; here are the install, one that is measured and one that tells
why it can't be.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.gpu import wheels
from tests.gpu.aborting import NO_COMPILER, compile_library
from tests.gpu.test_wheels import tiny_wheel

pytestmark = pytest.mark.turns(32, "whole runs")

SCRIPT = wheels.ROOT / "tests" / "gpu" / "run.py"


def dry_run(folder: Path, out: Path) -> str:
    words = [
        "--wheels",
        folder,
        "--wanted",
        "tinypart",
        "--use-environment",
        "--dry-run-on-cpu",
        "--out",
        out,
    ]
    done = subprocess.run(
        [sys.executable, SCRIPT, *words, "--only", "placement", "abort"],  # type: ignore[list-item]
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.tf
def test_dry_run_installs_from_parts_measures_reports_and_goes_on(tmp_path: Path) -> None:
    wheels.split(tiny_wheel(tmp_path / "wheels"), 100)
    assert "placement: " in dry_run(tmp_path / "wheels", tmp_path / "out")
    assert (tmp_path / "out" / "target" / "tinypart.py").exists()
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "tensorflow" in told["machine"]["versions"]
    assert told["parts"]["placement"]["figures"]["products on"] == ["cpu"]
    assert told["parts"]["abort"]["status"] == "not run"
    assert (
        "no card" in told["parts"]["abort"]["reason"]
        or told["parts"]["abort"]["reason"] == NO_COMPILER
    )
    assert "placement: " not in dry_run(tmp_path / "wheels", tmp_path / "out")


@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason=NO_COMPILER)
@pytest.mark.slow
def test_all_reduce_of_the_spinning_library_ends_when_it_is_aborted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "seen"
    monkeypatch.setenv("SPINNING_NCCL_LOG", str(log))
    library = ctypes.CDLL(str(compile_library(tmp_path)))
    reduce = threading.Thread(
        target=library.ncclAllReduce, args=(None, None, 0, 0, 0, None, None), daemon=True
    )
    reduce.start()
    deadline = time.monotonic() + 30
    while not (log.exists() and "spinning" in log.read_text()):
        assert time.monotonic() < deadline
    assert reduce.is_alive()
    library.ncclCommAbort(None)
    reduce.join(30)
    assert not reduce.is_alive()
    assert log.read_text().split() == ["spinning", "aborted", "released"]
