"""When does a member that has read its rows of divided tables count as joined?

Rule: when all members have come and what they read is found whole, not before; and what isn't is the
checkpoint's fault, which the driver judges.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from orchestrator.decide import events as ev
from orchestrator.errors import CorruptCheckpoint
from tests.fakes.group import FakeTrainer
from tests.workers.test_member import Bench


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A member whose group compares what its members have read."""
    made = Bench()
    trainer = made.member._mailbox.trainer
    assert isinstance(trainer, FakeTrainer)
    trainer.agrees = True
    yield made
    made.member.close()


def test_member_that_read_rows_joins_when_all_have_come(
    together: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    come = threading.Event()
    met = FakeTrainer.meet

    def meet(trainer: FakeTrainer) -> bool:
        assert come.wait(10)
        return met(trainer)

    monkeypatch.setattr(FakeTrainer, "meet", meet)
    together.join()
    together.expect(ev.Progress, lambda event: event.generation == 1)
    assert not together.member.report()["joined"]
    come.set()
    together.expect(ev.Joined)
    together.grant(7)
    together.expect(ev.Progress, lambda event: event.step == 7)


def test_member_whose_group_finds_a_damaged_table_accuses_the_checkpoint_and_holds_no_state(
    together: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = FakeTrainer.meet

    def meet(trainer: FakeTrainer) -> bool:
        raise CorruptCheckpoint("table/Adagrad fails its checksum")

    monkeypatch.setattr(FakeTrainer, "meet", meet)
    together.join()
    failed = together.expect(ev.JoinFailed)
    assert failed.obstacle is ev.Obstacle.DAMAGED
    assert "table/Adagrad" in failed.detail
    together.member.quiesce(1, urgent=False)
    held = together.expect(ev.Held)
    assert (held.step, held.share) == (None, None)
    monkeypatch.setattr(FakeTrainer, "meet", met)
    together.join(generation=2)
    together.expect(ev.Joined)
