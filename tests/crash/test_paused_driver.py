"""A driver is paused, another takes over, the first wakes up with a save in flight: real processes,
real SIGSTOP, real clocks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.checkpoints.pointing import set_pointer
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.location import Location
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from tests.servers.object_stores import OPTIONAL
from tests.store.runs import saved

pytestmark = [pytest.mark.chaos, pytest.mark.turns(3)]

LEASE_S = 3.0
OPTIONS = ("endpoint_url", "token", "key", "secret", "connection_string")
FIRST = """
import sys, threading
from orchestrator.errors import LeaseLost
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.objects.location import open_location
from tests.store.runs import saved, uploaded

output = open_location(sys.argv[1], **eval(sys.argv[2]))
lease = acquire(output, "first", lease_s=float(sys.argv[3]))
over = threading.Event()

def beat():
    while not over.wait(lease.beat_every_s):
        try:
            lease.heartbeat()
        except LeaseLost:
            return

threading.Thread(target=beat, daemon=True).start()
record_takeover(output, 1, 1, 0)
saved(output, 100, lease=lease)
late = uploaded(output, 200)
print("ready", flush=True)
sys.stdin.readline()
try:
    commit(output, late, lease=lease)
    print("committed", flush=True)
except LeaseLost as error:
    print("lost:", error.message, flush=True)
print(lease.is_fresh, flush=True)
"""


@pytest.fixture
def first(store: Location) -> Iterator[subprocess.Popen[str]]:
    """A driver process that holds the output, has saved step 100 and has step 200 in flight."""
    options = {key: value for key, value in store.fs.storage_options.items() if key in OPTIONS}
    command = [sys.executable, "-c", FIRST, store.url, repr(options), str(LEASE_S)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate(timeout=60)


@pytest.mark.parametrize("store", ["local", "gcs", "s3", *OPTIONAL], indirect=True)
def test_driver_paused_past_its_lease_is_fenced_when_it_wakes(
    store: Location, first: subprocess.Popen[str]
) -> None:
    assert first.stdin is not None
    assert first.stdout is not None
    os.kill(first.pid, signal.SIGSTOP)
    second = acquire(store, "second", lease_s=LEASE_S)
    assert second.attempt == 2
    record_takeover(store, 2, 1, 100, parent=(1, 1))
    saved(store, 150, attempt=2, lease=second)
    os.kill(first.pid, signal.SIGCONT)
    first.stdin.write("go\n")
    first.stdin.flush()
    assert "attempt 2 (second) has taken this run over" in first.stdout.readline()
    assert first.stdout.readline() == "False\n"
    assert [item.step for item in list_checkpoints(store)] == [150, 100]
    set_pointer(store)
    assert read_pointer(store) == "a0002-g0001/model.ckpt-150"
    second.check()
