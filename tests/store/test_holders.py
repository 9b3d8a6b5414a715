"""A holder whose process is gone from this machine needs no waiting; one of another machine does."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.store.lease import acquire, observe
from orchestrator.store.location import open_location
from tests.fakes.clocks import FakeClock

HOLD = "import sys, time; from orchestrator.store.lease import acquire; from orchestrator.store.location import open_location\n"
HOLD += "acquire(open_location(sys.argv[1]), 'child'); print('held', flush=True); time.sleep(600)"


@pytest.fixture
def killed_holder(tmp_path: Path) -> Path:
    """An output whose holder was killed a moment ago."""
    output = tmp_path / "out"
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    assert not observe(open_location(str(output))).dead
    child.kill()
    # Not yet reaped: a zombie is dead too
    deadline = time.monotonic() + 10
    while not observe(open_location(str(output))).dead:
        assert time.monotonic() < deadline
    child.wait(10)
    child.stdout.close()
    return output


def test_acquire_from_a_killed_process_of_this_machine_is_immediate(killed_holder: Path) -> None:
    clock = FakeClock()
    lease = acquire(open_location(str(killed_holder)), now=clock.now, wait=clock.wait)
    assert (lease.attempt, clock.waits) == (2, 0)
    assert lease.taken_from is not None
    assert lease.taken_from.name == "child"


def test_acquire_from_another_machine_waits_out_the_lease(killed_holder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.lease.this_machine", lambda: "elsewhere")
    clock = FakeClock()
    lease = acquire(open_location(str(killed_holder)), now=clock.now, wait=clock.wait)
    assert lease.attempt == 2
    assert clock.now_s - 1000 >= 30
