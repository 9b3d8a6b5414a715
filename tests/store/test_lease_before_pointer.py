"""Does a driver that has lost its run leave TensorFlow's pointer alone, and does it know in time?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import LeaseLost
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from tests.fakes.clocks import FakeClock
from tests.store.runs import saved, uploaded


def test_driver_that_slept_between_manifest_and_pointer_does_not_point_at_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pointer is the one object that is overwritten, so the lease is asked once more."""
    output, clock = open_location(str(tmp_path)), FakeClock()
    first = acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
    record_takeover(output, 1, 1, 0)
    late = uploaded(output, 100)
    create: Any = commit.__globals__["create_once"]

    def sleeps_then(location: Any, data: bytes) -> None:
        create(location, data)
        if location.name == late.file_name:
            second = acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
            record_takeover(output, second.attempt, 1, 50, parent=(1, 1))
            saved(output, 60, attempt=2, lease=second)

    monkeypatch.setitem(commit.__globals__, "create_once", sleeps_then)
    monkeypatch.setattr("orchestrator.store.checkpoints.commits.set_pointer", pointing(first))
    with pytest.raises(LeaseLost):
        commit(output, late, lease=first)
    assert read_pointer(output) == "a0002-g0001/model.ckpt-60"


def pointing(stale: Any) -> Any:
    """As ``set_pointer``; the stale driver must not come so far."""
    real = commit.__globals__["set_pointer"]

    def point(output: Any, lineage: Any, label: str) -> Any:
        assert lineage.head.attempt != stale.attempt, "it points at what it committed too late"
        return real(output, lineage, label)

    return point


def test_driver_that_was_silent_for_a_lease_knows_that_it_may_have_been_followed(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    lease = acquire(open_location(str(tmp_path)), lease_s=10.0, now=clock.now, wait=clock.wait)
    clock.now_s += 9.0
    assert lease.is_fresh
    clock.now_s += 2.0
    assert not lease.is_fresh
    lease.heartbeat()
    assert lease.is_fresh
