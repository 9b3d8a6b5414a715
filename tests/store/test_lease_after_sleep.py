"""Does a driver that slept in the midst of a look leave a holder alone that has woken up meanwhile?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.decide.holding import Hold
from orchestrator.errors import OutputError
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run import lease as leases
from orchestrator.store.run.holder import LEASE_S
from orchestrator.store.run.lease import acquire, looked
from tests.fakes.clocks import FakeClock


@pytest.mark.parametrize("slept_s", [20.0, 100.0])
def test_driver_that_slept_after_what_it_saw_does_not_take_that_for_silence(
    slept_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its clock the holder was silent for a lease, of which it has slept through nearly all."""
    output, clock = open_location(str(tmp_path)), FakeClock()
    first = acquire(output, "first", lease_s=30.0, now=clock.now, wait=clock.wait)
    real: Any = leases.__dict__["observe"]
    looks = []

    def sleeps_after(place: Any) -> Any:
        seen = real(place)
        looks.append(clock.now_s)
        if len(looks) == 5:
            clock.now_s += slept_s
            first.heartbeat()
        return seen

    monkeypatch.setattr(leases, "observe", sleeps_after)
    with pytest.raises(OutputError, match="first"):
        acquire(output, "second", lease_s=30.0, now=clock.now, wait=clock.wait)
    assert len(looks) == 6
    first.check()


def test_driver_that_slept_for_a_lease_before_it_acts_looks_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder was silent for long, and woke up while the other slept."""
    output, clock = open_location(str(tmp_path)), FakeClock()
    first = acquire(output, "first", lease_s=30.0, now=clock.now, wait=clock.wait)
    _, _, watch = looked(output, None, clock.now)
    clock.now_s += 50.0
    assert looked(output, watch, clock.now)[1] is Hold.TAKE
    real: Any = leases.__dict__["observe"]

    def sleeps_after(place: Any) -> Any:
        seen = real(place)
        clock.now_s += 30.0
        first.heartbeat()
        return seen

    monkeypatch.setattr(leases, "observe", sleeps_after)
    assert looked(output, watch, clock.now)[1] is Hold.WAIT
    assert looked(output, watch, clock.now)[1] is Hold.REFUSE


def test_first_look_that_took_long_is_no_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, clock = open_location(str(tmp_path)), FakeClock()
    acquire(output, "first", lease_s=30.0, now=clock.now, wait=clock.wait)
    real: Any = leases.__dict__["observe"]

    def answered_late(place: Any) -> Any:
        clock.now_s += 29.0
        return real(place)

    with monkeypatch.context() as slow:
        slow.setattr(leases, "observe", answered_late)
        _, _, watch = looked(output, None, clock.now)
    clock.now_s += 2.0
    assert looked(output, watch, clock.now)[1] is Hold.WAIT


def test_request_of_a_holder_takes_a_third_of_its_lease_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat makes three, and must be through before the lease is over. A look is tried twice,
    since one reply that was lost isn't news of others.
    """
    real, asked = Location.hurried, []

    def noted(place: Location, deadline_s: float, attempts: int = 1) -> Location:
        asked.append((deadline_s, attempts))
        return real(place, deadline_s, attempts)

    monkeypatch.setattr(Location, "hurried", noted)
    clock = FakeClock()
    lease = acquire(open_location(str(tmp_path)), lease_s=30.0, now=clock.now)
    lease.heartbeat()
    assert asked == [(10.0, 2), (10.0, 2), (10.0, 1)] * 2, "no beat came late"
    asked.clear()
    lease.check()
    lease.release()
    assert asked == [(10.0, 2)] * 3


def test_driver_that_is_refused_is_told_who_holds_the_output_and_what_to_do(
    tmp_path: Path,
) -> None:
    output, clock = open_location(str(tmp_path)), FakeClock()
    clock.meanwhile = acquire(output, "first", now=clock.now, wait=clock.wait).heartbeat
    with pytest.raises(OutputError) as refused:
        acquire(output, "second", now=clock.now, wait=clock.wait)
    assert refused.value.remedy == (
        "Wait for it, stop it with `tfresume stop`, or use another --output"
    )
    assert refused.value.details == {"holder": "first", "attempt": 1, "expires_s": LEASE_S}
