"""Does a driver that has lost its run leave TensorFlow's pointer alone, and does it know in time?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import LeaseLost
from orchestrator.store.checkpoints import commits, pointing, retention
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.lease import Lease, acquire
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
    create: Any = commits.__dict__["create_once"]
    write: Any = pointing.__dict__["write_pointer"]
    pointed: list[str] = []

    def sleeps_then(location: Any, data: bytes) -> None:
        create(location, data)
        if location.name == late.file_name:
            second = acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
            record_takeover(output, second.attempt, 1, 50, parent=(1, 1))
            saved(output, 60, attempt=2, lease=second)

    def noted(output: Any, label: str, labels: Any) -> None:
        pointed.append(label)
        write(output, label, labels)

    monkeypatch.setattr(commits, "create_once", sleeps_then)
    monkeypatch.setattr(pointing, "write_pointer", noted)
    with pytest.raises(LeaseLost):
        commit(output, late, lease=first)
    # Not for a moment either: a driver that dies then leaves it there
    assert pointed == ["a0002-g0001/model.ckpt-60"]
    assert read_pointer(output) == "a0002-g0001/model.ckpt-60"


def test_driver_that_slept_before_its_pointer_leaves_the_one_that_its_successor_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the lease and an object that is overwritten nothing can be asked; so it's
    asked afterwards, since whoever followed may be done and set the pointer no more.
    """
    output, clock = open_location(str(tmp_path)), FakeClock()
    first = acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
    record_takeover(output, 1, 1, 0)
    real: Any = pointing.__dict__["write_pointer"]
    pointed: list[str] = []

    def sleeps_before(output: Any, label: str, labels: Any) -> None:
        if not pointed:
            pointed.append(label)
            second = acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
            record_takeover(output, second.attempt, 1, 100, parent=(1, 1))
            saved(output, 160, attempt=2, lease=second)
        real(output, label, labels)

    late = uploaded(output, 100)
    monkeypatch.setattr(pointing, "write_pointer", sleeps_before)
    with pytest.raises(LeaseLost):
        commit(output, late, lease=first)
    assert pointed == ["a0001-g0001/model.ckpt-100"], "it slept"
    assert read_pointer(output) == "a0002-g0001/model.ckpt-160"


def test_driver_that_slept_over_the_listing_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its successor may have been shown fewer checkpoints, and have gone on from an older one."""
    output, clock = open_location(str(tmp_path)), FakeClock()
    first = acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
    record_takeover(output, 1, 1, 0)
    for step in (10, 20):
        saved(output, step, lease=first)
    real: Any = retention.__dict__["scan_all"]

    def sleeps_then(output: Any) -> Any:
        listed = real(output)
        acquire(output, lease_s=1.0, now=clock.now, wait=clock.wait)
        return listed

    monkeypatch.setattr(retention, "scan_all", sleeps_then)
    with pytest.raises(LeaseLost):
        retention.retain(output, max_to_keep=1, keep_every_hours=1e9, lease=first)
    assert len(real(output)[0]) == 2


def test_driver_that_slept_while_the_store_answered_asks_again_before_it_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, clock = open_location(str(tmp_path)), FakeClock()
    first = acquire(output, lease_s=10.0, now=clock.now, wait=clock.wait)
    clock.now_s += 11.0
    beat = first.heartbeat
    beats = []

    def sleeps_after() -> None:
        beat()
        beats.append(clock.now_s)
        if len(beats) == 1:
            clock.now_s += 11.0

    monkeypatch.setattr(first, "heartbeat", sleeps_after)
    first.confirm()
    assert len(beats) == 2
    assert first.is_fresh
    acquire(output, lease_s=10.0, now=clock.now, wait=clock.wait)
    clock.now_s += 11.0
    with pytest.raises(LeaseLost):
        first.confirm()


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


def test_heartbeat_that_took_long_keeps_the_run_from_its_beginning_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the lease to run out may have seen the beat before it was answered."""
    clock = FakeClock()
    lease = acquire(open_location(str(tmp_path)), lease_s=10.0, now=clock.now, wait=clock.wait)
    look: Any = lease._look_for_others

    def slowly(patience_s: float) -> None:
        look(patience_s)
        clock.now_s += 9.0

    monkeypatch.setattr(lease, "_look_for_others", slowly)
    lease.heartbeat()
    assert lease.is_fresh
    clock.now_s += 2.0
    assert not lease.is_fresh


def test_heartbeat_that_comes_after_a_takeover_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who took over had seen a lease's silence, and doesn't see the late beat any more."""
    output, clock = open_location(str(tmp_path)), FakeClock()
    first = acquire(output, lease_s=10.0, now=clock.now, wait=clock.wait)
    look: Any = first._look_for_others
    followers: list[Lease] = []

    def followed_after(patience_s: float) -> None:
        look(patience_s)
        if not followers:
            followers.append(acquire(output, lease_s=10.0, now=clock.now, wait=clock.wait))

    monkeypatch.setattr(first, "_look_for_others", followed_after)
    with pytest.raises(LeaseLost):
        first.heartbeat()
    assert followers
    assert not first.is_fresh
