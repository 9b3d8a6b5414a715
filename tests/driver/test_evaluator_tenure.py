"""Does an evaluator keep its name as long as it lives, and no longer than it may?"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driver import evaluator_tenure
from orchestrator.driver.evaluator_tenure import _beat, ended_by_sigterm, held
from orchestrator.errors import LeaseLost, OutputError, Preempted, StorageUnavailable
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.evaluations import Evaluations
from orchestrator.store.run.lease import Lease, observe


class Beating:
    """Stands for a lease and for the event that ends its heartbeat: what comes of each beat."""

    beat_every_s = 2.5

    def __init__(self, *beats: Exception | None) -> None:
        self.beats, self.waits = list(beats), [0.0][:0]

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return not self.beats

    def heartbeat(self) -> None:
        error = self.beats.pop(0)
        if error is not None:
            raise error


def beaten(lease: Beating) -> None:
    told: Any = lease
    _beat(told, told)


def test_name_is_kept_by_a_beat_at_each_interval_and_a_silent_store_is_borne(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lease = Beating(None, StorageUnavailable("the store doesn't answer"), None)
    beaten(lease)
    assert lease.waits == [2.5] * 4
    assert caplog.messages == ["heartbeat: the store doesn't answer"]


def test_name_that_is_lost_is_beaten_for_no_more(caplog: pytest.LogCaptureFixture) -> None:
    lease = Beating(None, LeaseLost("taken over"), None)
    beaten(lease)
    assert (len(lease.waits), len(lease.beats)) == (2, 1)
    assert caplog.messages == []


def test_name_is_given_up_in_the_end_and_beaten_for_no_more(tmp_path: Path) -> None:
    own = Evaluations(open_location(str(tmp_path)), "eval")
    with held(own, 30.0) as lease:
        assert lease.is_fresh
        assert not observe(own.place).released
    assert observe(own.place).released
    assert not [one for one in threading.enumerate() if one.name == "tfresume-heartbeat"]


def test_name_that_another_one_evaluates_under_is_refused_with_who_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Evaluations(open_location(str(tmp_path)), "eval")
    errors = [
        OutputError("taken", details={"holder": "ann@head pid 4711"}),
        OutputError("read-only"),
    ]

    def refuse(place: Location, *, lease_s: float) -> Lease:
        assert (place, lease_s) == (own.place, 30.0)
        raise errors[0]

    monkeypatch.setattr(evaluator_tenure, "acquire", refuse)
    with pytest.raises(OutputError) as told, held(own, 30.0):
        pass
    assert told.value.message == (
        f"ann@head pid 4711 evaluates {tmp_path} under the name eval already"
    )
    assert told.value.remedy == "Wait for it or end it, or give this one another --name"
    assert told.value.details == {"holder": "ann@head pid 4711"}
    del errors[0]
    with pytest.raises(OutputError, match="read-only"), held(own, 30.0):
        pass


def test_sigterm_ends_it_as_an_error_and_the_handler_of_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted) as told, ended_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert told.value.remedy == "The same command goes on where it was"
    assert signal.getsignal(signal.SIGTERM) is before
