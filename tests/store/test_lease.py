"""What does a lease write down, what does it ask for, and what is told of one that's lost?"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.decide.holding import Sight
from orchestrator.errors import LeaseLost, OutputError
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.processes import start_ticks, this_machine, this_user
from orchestrator.store.objects.records import encode, read_record
from orchestrator.store.run import lease as leases
from orchestrator.store.run.holder import LEASE_S, Holder
from orchestrator.store.run.lease import NOBODY, Lease, Observed, acquire, observe
from tests.fakes.clocks import FakeClock

STOPS = "Nothing to do: the other driver goes on. This one stops without writing"


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "out"))


def taken(output: Location, clock: FakeClock, name: str = "me", lease_s: float = 30.0) -> Lease:
    return acquire(output, name, lease_s=lease_s, now=clock.now, wait=clock.wait)


def record(output: Location, name: str) -> Location:
    return output.child("_tfresume", "lease", name)


def follow(output: Location, attempt: int, name: str) -> None:
    """Somebody else's lease, as it stands in the store."""
    holder = Holder(attempt=attempt, name=name, writer=f"writer of {name}")
    record(output, f"{attempt:04d}.json").write_bytes(encode(holder))


def test_lease_says_who_holds_the_run_so_that_people_and_processes_find_him(
    output: Location,
) -> None:
    before = time.time()
    lease = acquire(output)
    written = read_record(Holder, record(output, "0001.json"))
    assert written is not None
    assert written == lease.holder
    assert written.name == f"{this_user()}@{socket.gethostname()} pid {os.getpid()}"
    assert (written.attempt, written.pid, written.lease_s) == (1, os.getpid(), LEASE_S)
    assert (written.machine, written.start_ticks) == (this_machine(), start_ticks(os.getpid()))
    assert before <= written.since <= time.time()
    lease.release()
    again = acquire(output, lease_s=12.0)
    assert again.holder.writer != written.writer
    assert again.taken_from == written
    assert (again.attempt, again.holder.lease_s, again.beat_every_s) == (2, 12.0, 2.0)


def test_process_whose_start_is_unknown_may_hold_a_run(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "start_ticks", lambda _: None)
    assert acquire(output).holder.start_ticks == 0
    assert not observe(output).dead


def test_heartbeat_changes_with_each_beat_and_names_its_writer(output: Location) -> None:
    lease = taken(output, FakeClock())
    beat = record(output, "0001.heartbeat")
    assert beat.read_if_exists() == f"{lease.holder.writer} 1\n".encode()
    lease.heartbeat()
    assert beat.read_if_exists() == f"{lease.holder.writer} 2\n".encode()
    assert observe(output).beat == f"{lease.holder.writer} 2\n".encode()


def test_lease_that_is_given_up_says_who_did(output: Location) -> None:
    lease = taken(output, FakeClock())
    assert not observe(output).released
    lease.release()
    given_up = record(output, "0001.released")
    assert given_up.read_if_exists() == f"{lease.holder.writer}\n".encode()
    assert observe(output).released


def test_driver_that_was_followed_is_told_by_whom_and_stays_lost(output: Location) -> None:
    lease = taken(output, FakeClock())
    follow(output, 2, "bob@elsewhere")
    for _ in range(2):
        with pytest.raises(LeaseLost) as told:
            lease.check()
        assert told.value.message == (
            "attempt 2 (bob@elsewhere) has taken this run over from attempt 1"
        )
        assert told.value.remedy == STOPS
        record(output, "0002.json").delete()
    assert not lease.is_fresh


def test_driver_whose_lease_another_one_overwrote_is_told_why(output: Location) -> None:
    lease = taken(output, FakeClock())
    follow(output, 1, "bob@elsewhere")
    with pytest.raises(LeaseLost) as told:
        lease.heartbeat()
    assert told.value.message == (
        "bob@elsewhere has taken attempt 1 of this run too, since the store doesn't enforce "
        "exclusive creates; its lease is the one that stands"
    )
    assert told.value.remedy == STOPS
    lease.release()
    assert not observe(output).released, "what a rival holds isn't given up"


def test_driver_whose_own_lease_is_gone_has_lost_nothing(output: Location) -> None:
    """Somebody tidied up by hand; no other driver is there."""
    lease = taken(output, FakeClock())
    record(output, "0001.json").delete()
    lease.check()
    lease.heartbeat()
    assert lease.is_fresh


def test_driver_that_is_refused_is_told_when_the_lease_would_expire(output: Location) -> None:
    clock = FakeClock()
    clock.meanwhile = taken(output, clock, "first", 30.0).heartbeat
    with pytest.raises(OutputError) as told:
        taken(output, clock, "second")
    assert told.value.message == (
        f"{output.shown} is held by attempt 1, first, whose heartbeat is alive "
        "(its lease expires 30 s after the last one)"
    )


def test_driver_that_waits_looks_twice_as_often_as_the_holder_beats(output: Location) -> None:
    clock = FakeClock()
    taken(output, clock, "first", 30.0)
    began_s = clock.now_s
    second = taken(output, clock, "second", 6.0)
    assert (clock.waits, clock.now_s - began_s) == (12, 30.0)
    assert second.attempt == 2


def test_driver_that_was_not_fast_enough_is_refused_for_the_one_that_was(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    real: Any = leases.__dict__["observe"]
    looks: list[Observed] = []

    def slowly(place: Any) -> Any:
        looks.append(real(place))
        if len(looks) == 1:
            follow(output, 1, "rival")
        return looks[-1]

    monkeypatch.setattr(leases, "observe", slowly)
    with pytest.raises(OutputError, match="held by attempt 1, rival"):
        taken(output, clock)
    assert (looks[0], len(looks), clock.waits) == (NOBODY, 2, 0)


def test_nobody_holds_an_output_in_which_no_lease_was_ever_written(output: Location) -> None:
    assert observe(output) == NOBODY
    assert NOBODY.sight == Sight()
    record(output, "notes.json").write_bytes(b"{}")
    record(output, "0001.heartbeat").write_bytes(b"w 1\n")
    record(output, "0001.json.bak").write_bytes(b"{}")
    assert observe(output) == NOBODY


def test_newest_lease_is_the_one_with_the_highest_number(output: Location) -> None:
    for attempt in (2, 10, 9):
        follow(output, attempt, f"driver {attempt}")
    seen = observe(output)
    assert seen.holder is not None
    assert (seen.holder.name, seen.beat, seen.beaten) == ("driver 10", b"", None)
    assert seen.sight == Sight(10, lease_s=LEASE_S)
    record(output, "0010.heartbeat").write_bytes(b"w 1\n")
    seen = observe(output)
    assert seen.beaten is not None
    assert abs(seen.beaten - Path(record(output, "0010.heartbeat").path).stat().st_mtime) < 1.0
    assert (seen.beat, seen.released, seen.dead) == (b"w 1\n", False, False)


def test_heartbeat_that_vanishes_while_it_is_looked_at_is_none(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(output, FakeClock())
    vanishes(monkeypatch, output, "0001.heartbeat")
    assert observe(output).beat == b""


def test_lease_that_vanishes_while_it_is_looked_at_is_told(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(output, FakeClock())
    vanishes(monkeypatch, output, "0001.json")
    with pytest.raises(OutputError) as told:
        observe(output)
    shown = record(output, "0001.json").shown
    assert told.value.message == f"{shown} vanished while it was read"
    assert told.value.remedy == "Leave _tfresume/ alone and run the command again"


def vanishes(monkeypatch: pytest.MonkeyPatch, output: Location, name: str) -> None:
    """The file goes between the listing and the reading."""
    real = Location.list

    def listed(place: Location) -> Any:
        entries = real(place)
        record(output, name).delete()
        return entries

    monkeypatch.setattr(Location, "list", listed)
