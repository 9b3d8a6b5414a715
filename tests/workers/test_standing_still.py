"""Does a worker that has no room for a copy stand still for its save, hear those who call, and never
let a save read what has changed?
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.training.state.session_rows import Stillness
from orchestrator.workers import standing_still
from tests.fakes.group import FakeState, FakeTrainer
from tests.workers.test_member import Bench, stands_at


class Still(Bench):
    """A member whose saves read its rows where they lie, when they're let."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on, self.writing = threading.Event(), threading.Event()
        self.standings: list[Stillness] = []
        self.tools.before_write = self._before_write

    def _before_write(self, step: int) -> None:
        self.writing.set()
        assert self.go_on.wait(10)
        self.standings[-1].read(lambda: np.zeros(1))

    def at_its_save(self) -> None:
        """The save of step 8 has begun."""
        self.join()
        self.expect(ev.Joined)
        self.grant(50, 8)
        assert self.writing.wait(10)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[Still]:
    made = Still()
    copied = FakeTrainer.state_for_save

    def live(trainer: FakeTrainer) -> FakeState:
        made.standings.append(Stillness())
        return replace(copied(trainer), live=SimpleNamespace(stillness=made.standings[-1]))

    monkeypatch.setattr(FakeTrainer, "state_for_save", live)
    yield made
    made.go_on.set()
    made.member.close()


def test_member_takes_no_step_until_its_rows_are_sent_and_tells_what_it_does(still: Still) -> None:
    still.at_its_save()
    doing = still.expect(ev.Progress, lambda event: event.doing is ev.Doing.SAVING)
    assert doing.step == 8
    assert still.member.report()["step"] == 8
    assert len(still.tools.served) == 3
    still.go_on.set()
    written = still.expect(ev.SaveWritten)
    assert (written.step, written.position) == (8, 13)
    assert written.stall_s > 0
    still.expect(ev.Progress, stands_at(50))


def test_member_that_is_asked_to_hold_says_so_at_once_and_its_save_goes_on(still: Still) -> None:
    still.at_its_save()
    still.member.quiesce(1, urgent=False)
    assert still.expect(ev.Held).step == 8
    assert not still.go_on.is_set()
    still.go_on.set()
    assert still.expect(ev.SaveWritten).step == 8
    assert still.member.report()["step"] == 8


def test_member_that_joins_breaks_its_save_off_before_anything_changes(still: Still) -> None:
    still.at_its_save()
    still.member.quiesce(1, urgent=True)
    still.expect(ev.Held)
    still.join(generation=2, state_from=StateFrom.OWN, step=8)
    still.expect(ev.Joined, lambda event: event.generation == 2)
    still.grant(20, generation=2)
    still.expect(ev.Progress, stands_at(20))
    still.go_on.set()
    failed = still.expect(ev.SaveFailed)
    assert failed.step == 8
    assert "broken off" in failed.detail
    assert not still.tools.store.keys() & {"a0001-g0001/model-8"}
    still.grant(30, 25, generation=2)  # and the next one is made
    assert still.expect(ev.SaveWritten).step == 25


def test_order_to_join_is_heard_while_a_save_is_under_way(still: Still) -> None:
    still.at_its_save()
    still.join(generation=2, state_from=StateFrom.OWN, step=8)
    still.expect(ev.Joined, lambda event: event.generation == 2)
    still.go_on.set()
    assert "broken off" in still.expect(ev.SaveFailed).detail


def test_save_that_moves_nothing_is_broken_off_and_training_goes_on(
    still: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_still, "STILL_S", 0.05)
    still.at_its_save()
    still.expect(ev.Progress, stands_at(50))
    still.go_on.set()
    assert "broken off" in still.expect(ev.SaveFailed).detail


def test_member_that_is_closed_sends_its_rows_first(still: Still) -> None:
    still.at_its_save()
    still.member.close()
    still.go_on.set()
    assert still.expect(ev.SaveWritten).step == 8
