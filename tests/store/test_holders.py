"""A holder whose process is gone from this machine needs no waiting; one of another machine does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from orchestrator.store.objects.location import open_location
from orchestrator.store.objects.processes import is_gone, start_ticks, this_machine
from orchestrator.store.run.lease import acquire, observe
from tests.fakes.clocks import FakeClock

HOLD = "import sys, time; from orchestrator.store.run.lease import acquire; from orchestrator.store.objects.location import open_location\n"
HOLD += "acquire(open_location(sys.argv[1]), 'child'); print('held', flush=True); time.sleep(600)"


@pytest.fixture
def killed_holder(tmp_path: Path) -> Path:
    """An output whose holder was killed a moment ago."""
    output = tmp_path / "out"
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True
    )
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


def test_acquire_from_another_machine_waits_out_the_lease(
    killed_holder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.objects.processes.this_machine", lambda: "elsewhere")
    clock = FakeClock()
    lease = acquire(open_location(str(killed_holder)), now=clock.now, wait=clock.wait)
    assert lease.attempt == 2
    assert clock.now_s - 1000 >= 30


def test_holder_survives_a_step_of_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = open_location(str(tmp_path / "out"))
    acquire(output, "me")
    truth = psutil.Process.create_time
    # What psutil says after somebody has set the clock: it reckons from the boot's wall-clock time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: truth(process) + 3600.0)
    assert psutil.Process().create_time() > truth(psutil.Process()) + 3599
    assert not observe(output).dead


def test_process_whose_number_came_back_is_gone() -> None:
    ticks = start_ticks(os.getpid())
    assert ticks
    assert not is_gone(this_machine(), os.getpid(), ticks)
    assert is_gone(this_machine(), os.getpid(), ticks - 1)
    assert not is_gone("elsewhere", os.getpid(), ticks - 1)


def test_start_ticks_of_a_command_with_parentheses_are_read(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(odd), "60"])
    try:
        deadline = time.monotonic() + 10
        while ") S 1 (" not in Path(f"/proc/{child.pid}/stat").read_text():
            assert time.monotonic() < deadline
        started = start_ticks(child.pid)
        assert started is not None
        assert started >= (start_ticks(os.getpid()) or 0) > 0
    finally:
        child.kill()
        child.wait(10)
    assert start_ticks(child.pid) is None
