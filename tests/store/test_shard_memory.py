"""Does a rank need no more than its share of a large table, when it's saved and when it's read?"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.bundle.joint_crc import joint_problems
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.objects.layout import checkpoint_dir
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.transfer.part_files import send_index
from tests.forked import ROOT
from tests.servers.programs import Server

ROWS, COLUMNS, RANKS = 560_000, 64, 2
ALLOWED_BYTES = 64 << 20
"""Over its share."""


def _ranks(
    scratch: Path, act: str, url: str, options: dict[str, Any], ranks: int
) -> list[dict[str, Any]]:
    """All ranks at once, each in a process of its own."""
    running = []
    for rank in range(ranks):
        job = scratch / f"{act}-{rank}.json"
        size = {"rank": rank, "ranks": ranks, "rows": ROWS, "columns": COLUMNS}
        job.write_text(json.dumps({"act": act, "url": url, "options": options, **size}))
        words = [sys.executable, "-m", "tests.store.shard_process", str(job)]
        running.append(
            subprocess.Popen(
                words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    found = []
    for process in running:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-3000:]
        found.append(json.loads(out.splitlines()[-1]))
    return found


@pytest.mark.slow
@pytest.mark.turns(6)
@pytest.mark.parametrize("kind", ["local", "gcs", "s3"])
def test_rank_saving_and_reading_a_large_table_takes_its_share_and_little_more(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Server | None = None if kind == "local" else request.getfixturevalue(f"{kind}_server")
    url = str(tmp_path / "out") if server is None else server.url("shard-memory")
    options: dict[str, Any] = {} if server is None else server.options()
    output: Location = open_location(url, **options)
    record_takeover(output, 1, 1, 0)
    below = f"{url}/{checkpoint_dir(1, 1)}"
    done = _ranks(tmp_path, "save", below, options, RANKS)
    for one in done:
        assert one["share"] > ALLOWED_BYTES  # or a second share could hide
        assert one["planted"] > ALLOWED_BYTES  # what a copy takes is seen
        assert one["over"] <= ALLOWED_BYTES
    told = [pickle.loads(bytes.fromhex(one["told"])) for one in done]
    directory = output.child(checkpoint_dir(1, 1))
    records = send_index("m-5", [report for report, _ in told], directory)
    files = (*records, *(record for _, sent in told for record in sent))
    manifest = Manifest(
        name="m", step=5, attempt=1, generation=1, files=files, step_key="global_step"
    )
    assert commit(output, manifest).check(deep=True).step == 5
    read = _ranks(tmp_path, "load", below, options, 3)
    for one in read:
        assert one["same"]
        assert one["over"] <= ALLOWED_BYTES
    assert (
        joint_problems(part for one in read for part in pickle.loads(bytes.fromhex(one["told"])))
        == []
    )
