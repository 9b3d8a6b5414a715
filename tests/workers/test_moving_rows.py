"""What does a worker make of rows of divided tables that it's to give or to take?

Rule: what has come is compared before anything is set, with its checksums and with the moment that
the group goes on from; who has no rows gives none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import pytest

from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.decide.spans import RowSpan
from orchestrator.errors import CorruptState, WorkerLost
from orchestrator.workers.orders import Given, GivenRows, JoinOrder
from tests.fakes.group import FakeRows, FakeTrainer
from tests.workers.test_member import Bench

HALF = RowSpan(Fraction(0), Fraction(1, 2))


class Rows(FakeRows):
    """Of a trainer whose rows are words."""

    def __init__(self, trainer: FakeTrainer) -> None:
        super().__init__(trainer)
        self.taken: list[str] = []

    def give(self, wanted: Sequence[Any]) -> tuple[str, ...]:
        return tuple(f"rows {span.begin} to {span.end}" for span in wanted)

    def compare(self, given: Sequence[str]) -> None:
        if "damaged" in given:
            raise CorruptState("rows arrived damaged, table among them")

    def take(self, share: tuple[int, int], given: Sequence[str]) -> tuple[int, int]:
        self.taken += given
        self.trainer.share = share
        return len(given), 10 * len(given)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    trainer = made.member._mailbox.trainer
    assert isinstance(trainer, FakeTrainer)
    trainer.rows = Rows(trainer)
    made.join()
    made.expect(ev.Joined)
    made.member.quiesce(1, urgent=False)
    made.expect(ev.Held)
    yield made
    made.member.close()


def rows_of(bench: Bench) -> Rows:
    trainer = bench.member._mailbox.trainer
    assert isinstance(trainer, FakeTrainer)
    assert isinstance(trainer.rows, Rows)
    return trainer.rows


def order(step: int = 5) -> JoinOrder:
    return JoinOrder(2, 0, ("host:0",), step, 10, StateFrom.OWN, moves=True)


def test_member_gives_each_taker_what_it_asks_for_with_the_moment_that_it_is_of(
    bench: Bench,
) -> None:
    first, second = bench.member.held_rows([[HALF], []])

    assert first == GivenRows(5, 10, ("rows 0 to 1/2",))
    assert second.pieces == ()


def test_member_takes_rows_and_tells_how_many(bench: Bench) -> None:
    bench.member.join(order(), Given(None, (GivenRows(5, 10, ("a", "b")),)))
    joined = bench.expect(ev.Joined)

    assert (joined.rows, joined.size_bytes) == (2, 20)
    assert rows_of(bench).taken == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (GivenRows(5, 10, ("a", "damaged")), "arrived damaged"),
        (GivenRows(6, 12, ("a",)), "the group's state is of"),
    ],
)
def test_member_refuses_rows_that_are_damaged_or_of_another_moment_and_keeps_its_own(
    bench: Bench, given: GivenRows, said: str
) -> None:
    bench.member.join(order(), Given(None, (given,)))
    failed = bench.expect(ev.JoinFailed)
    assert said in failed.detail
    assert failed.obstacle is ev.Obstacle.PASSING
    assert rows_of(bench).taken == []
    bench.member.quiesce(2, urgent=False)

    held = bench.expect(ev.Held)
    assert (held.step, held.share) == (5, (0, 1))


def test_member_without_a_state_gives_no_rows() -> None:
    bench = Bench()
    try:
        with pytest.raises(WorkerLost, match="no rows to give"):
            bench.member.held_rows([[HALF]])
    finally:
        bench.member.close()
