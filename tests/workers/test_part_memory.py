"""Does a worker that saves its rows of a table need no more memory than it has for them?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import ROOT

ROWS, COLUMNS, RANKS = 4_000_000, 64, 3
"""A gigabyte."""
ALLOWED_BYTES = 64 << 20
"""Over its share, which lies there when the save begins."""


@pytest.mark.turns(4, "what large ones cost")
@pytest.mark.slow
def test_workers_that_save_a_gigabyte_together_take_little_more_than_their_shares(
    tmp_path: Path,
) -> None:
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.workers.part_process", str(tmp_path / "out")),
                *map(str, (rank, RANKS, ROWS, COLUMNS)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    for process in running:
        out, err = process.communicate(timeout=500)
        assert process.returncode == 0, err[-3000:]
        told = json.loads(out)
        assert told["share"] > 300 << 20
        assert told["sent"] >= told["share"]
        assert told["planted"] > ALLOWED_BYTES  # what a copy takes is seen
        assert told["over"] <= ALLOWED_BYTES, told
