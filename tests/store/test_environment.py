"""A URL and the environment are enough: what workers, drivers and commands in other processes have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.servers.object_stores import OPTIONAL
from tests.servers.programs import Server, missing

CODE = """
import sys, time
from orchestrator.store.objects.location import open_location
from orchestrator.store.objects.exclusive import create_once
where = open_location(sys.argv[1])
began = time.monotonic()
create_once(where.child("a", "file"), b"x")
assert [entry.name for entry in where.child("a").list()] == ["file"]
print(time.monotonic() - began)
assert "tensorflow" not in sys.modules and "ray" not in sys.modules
"""


@pytest.mark.http
@pytest.mark.parametrize("kind", ["gcs", "s3", *OPTIONAL])
def test_url_alone_reaches_the_store_of_the_environment_at_once(
    kind: str, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(f"{kind}_server")
    command = [sys.executable, "-W", "error", "-c", CODE, server.url(f"from-environment-{kind}")]
    done = subprocess.run(
        command,
        env=os.environ | server.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 15.0


@pytest.mark.parametrize("kind", ["az", "weed"])
def test_optional_store_takes_part_or_says_how_to_get_it(kind: str) -> None:
    if said := missing(kind):
        pytest.skip(f"the contract suites run without it: {said}")
    assert kind in OPTIONAL
