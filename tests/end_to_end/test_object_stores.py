"""Does a whole resume work with source and output in a bucket, over HTTP, from a command that knows
nothing but the URLs?
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.store.objects.location import open_location
from tests.end_to_end import inputs
from tests.end_to_end.commands import assert_close, plain_variables, resumed, tfresume
from tests.graphs.library import CheckpointLibrary
from tests.servers.programs import Server

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.turns(32, "whole runs")]


@pytest.fixture(params=["gcs_server", "s3_server"])
def bucket(request: pytest.FixtureRequest) -> Server:
    """A real object-store server on this machine."""
    store: Server = request.getfixturevalue(request.param)
    return store


def _put(prefix: Path, store: Server, folder: str) -> str:
    for path in prefix.parent.iterdir():
        open_location(store.url(f"{folder}/{path.name}"), **store.options()).write_bytes(
            path.read_bytes()
        )
    return store.url(f"{folder}/{prefix.name}")


def _fetch(url: str, store: Server, folder: Path) -> Path:
    found = open_location(url.rpartition("/")[0], **store.options())
    for info in found.list():
        (folder / info.name).write_bytes(found.child(info.name).read_bytes())
    return folder / url.rpartition("/")[2]


def test_resume_from_bucket_into_bucket_on_two_workers_equals_one_process_and_goes_on(
    bucket: Server, tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="momentum", resource=True, devices=True)
    label = tmp_path.name
    source, output = _put(prefix, bucket, f"source-{label}"), bucket.url(f"output-{label}")
    words = (
        source,
        "--output",
        output,
        "--workers",
        "2",
        "--save-steps",
        "4",
        "--input",
        "tests.end_to_end.inputs:mlp",
    )
    first = resumed(*words, "--until-step", "8", env=bucket.environment())
    result = resumed(*words, "--until-step", "13", env=bucket.environment())
    assert (first["final_step"], result["start_step"], result["final_step"]) == (8, 8, 13)
    assert result["incidents"] == []
    assert result["checkpoint"].startswith(output)
    joined = [
        {
            name: np.concatenate([inputs.batch("mlp", 2 * step + rank)[name] for rank in range(2)])
            for name in ("x:0", "y:0")
        }
        for step in range(10)
    ]
    ours = plain_variables(_fetch(result["checkpoint"], bucket, tmp_path), tmp_path)
    assert_close(ours, plain_variables(prefix, tmp_path, joined))
    listed = tfresume("checkpoints", output, "--json", "--verify", env=bucket.environment())
    assert listed.code == 0
    assert listed.stdout.count('"good"') >= 2
