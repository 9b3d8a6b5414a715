"""Does a worker need room for its rows of a divided table once, whatever it does with them?

Rule: the kernel holds a real process to a limit that has no room for a second block, and its peak is
looked at besides.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import ROOT
from tests.training.one_block import MIB, PHASES
from tests.training.tall_tables import ROW_BYTES, tall_checkpoint

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.turns(3)]

BLOCK_BYTES, LIMIT_BYTES = 224 * MIB, 400 * MIB
"""Beside one block the limit has 176 MB: 64 for what a worker may take beside it, the rest for what
Python and TensorFlow take when they do something for the first time, and for the stacks of threads
(8 MB each), which such a limit counts though they aren't touched.
"""
BESIDE_BYTES = 128 * MIB
"""Of that, in memory: 64 MB, and 64 MB for what is done for the first time (22 MiB with a table of a
few rows: code, threads) and what the C library keeps of portions for each thread.
"""


def run_in_process(prefix: Path, output: Path, copy: str) -> subprocess.CompletedProcess[str]:
    words = (str(prefix), str(output), str(LIMIT_BYTES // MIB), copy)
    return subprocess.run(
        [sys.executable, "-m", "tests.training.one_block", *words],
        cwd=ROOT,
        # Its allocator takes addresses for more than is asked of it, and the limit counts them
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.parametrize("kind", ["ref", "resource"])
def test_worker_without_room_for_a_second_block_reads_steps_saves_and_reads_again(
    tmp_path: Path, kind: str
) -> None:
    prefix = tall_checkpoint(tmp_path, BLOCK_BYTES // ROW_BYTES, kind)
    done = run_in_process(prefix, tmp_path / "out", "asked")
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])

    assert told["held"], "the limit isn't enforced"
    assert told["start"] > BLOCK_BYTES, "the measure shows nothing"
    beside = {name: round((told[name] - BLOCK_BYTES) / MIB) for name in PHASES}
    assert max(beside.values()) <= BESIDE_BYTES // MIB, beside
    with_a_copy = run_in_process(prefix, tmp_path / "copied", "copy")
    assert with_a_copy.returncode != 0
    # By NumPy, or by TensorFlow
    assert re.search("Unable to allocate|OOM when allocating", with_a_copy.stderr)
