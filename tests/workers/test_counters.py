"""Does a worker keep to positions as well as steps, and what is its checkpoint called?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.decide import events as ev
from tests.workers.test_member import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.tools.counted = lambda step: step  # its counter stands still
    made.join()
    made.expect(ev.Joined)
    yield made
    made.member.close()


def test_member_whose_counter_stands_still_stops_at_the_position_that_is_granted(
    bench: Bench,
) -> None:
    bench.grant(100, position=25)
    told = bench.expect(ev.Progress, lambda event: event.position == 25)
    assert told.step == 5
    report = bench.member.report()
    assert (report["granted_end"], report["granted_position"], report["position"]) == (100, 25, 25)


def test_save_is_made_at_the_position_where_the_step_does_not_come(bench: Bench) -> None:
    bench.grant(100, 9, position=40, save_position=20)
    written = bench.expect(ev.SaveWritten)
    assert (written.step, written.position, written.prefix) == (5, 20, "model-5")


def test_further_checkpoint_of_a_step_tells_its_position_in_its_name(bench: Bench) -> None:
    bench.grant(100, 9, position=40, save_position=20, saved=5)
    written = bench.expect(ev.SaveWritten)
    assert (written.step, written.prefix) == (5, "model.at20-5")


def test_counter_that_leaps_over_the_agreed_step_is_saved_at_the_next_one(bench: Bench) -> None:
    bench.tools.counted = lambda step: step + 3
    bench.grant(10, 7, position=40, save_position=39)
    assert bench.expect(ev.SaveWritten).step == 8
    assert bench.expect(ev.Progress, lambda event: event.step == 11).position == 12
