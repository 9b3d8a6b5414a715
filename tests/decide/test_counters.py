"""Do grants, saves and ends come to a group whose own counter of steps leaps or stands still?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.phases import Phase
from orchestrator.decide.rules.deadlines import STANDING_S
from orchestrator.decide.rules.granting import LATE_S
from orchestrator.journal.group_events import CounterStands
from tests.decide.situation import Driver

MEMBERS = ("w0001", "w0002")


class Group(Driver):
    """Two members that take ten steps a second; each consumes two batches."""

    position = 0

    def go(self, steps: int, counter: int | None = None) -> list[act.Action]:
        """So many steps, after each of which the counter says ``counter``, as far as they're
        granted; what was done meanwhile.
        """
        done: list[act.Action] = []
        for _ in range(steps):
            if not self.run.may_step(self.run.step, self.position):
                break
            self.position += 2
            step = self.run.step if counter is None else counter
            pulses = [
                ev.Progress(
                    ident,
                    self.run.generation,
                    step,
                    ev.Doing.STEP,
                    10.0,
                    position=self.position,
                )
                for ident in MEMBERS
            ]
            done += self.tell(*pulses, ev.Tick(), after_s=0.1)
        self.actions = tuple(done)
        return done

    def saved_here(self) -> tuple[act.Action, ...]:
        """All members have copied the state where they are, and the writer has written it."""
        generation, step, position = self.run.generation, self.run.step, self.position
        files: tuple[Any, ...] = ()
        told = ev.SaveWritten("w0001", generation, step, position, "d", "p", files, {"v": 1})
        checked = ev.SaveChecked("w0002", generation, step, {"v": 1}, position)
        return self.tell(told, checked, ev.Committed(generation, step))


def group(**shape: Any) -> Group:
    driver = Group(count=2, **shape)
    driver.training(*MEMBERS)
    return driver


def agreed(done: list[act.Action]) -> list[act.Grant]:
    """The grants that agree on a save; further ones tell it again until it's written."""
    told: dict[int, act.Grant] = {}
    for action in done:
        if isinstance(action, act.Grant) and action.saves:
            first = told.setdefault(action.save, action)
            assert (first.saves, first.save_position) == (action.saves, action.save_position)
    return list(told.values())


def test_group_whose_counter_stands_still_is_granted_on_and_not_called_hung() -> None:
    driver = group()
    done = driver.go(3000)
    assert driver.position == 6000
    assert driver.run.step == 3
    kinds = {type(action) for action in done}
    assert kinds == {act.Grant, act.Note}
    (told,) = [each.event for each in done if isinstance(each, act.Note)]
    assert isinstance(told, CounterStands)
    assert told.step == 3
    assert told.seconds >= STANDING_S
    driver.go(1, counter=4)
    assert len([each for each in driver.go(1000) if isinstance(each, act.Note)]) == 1, "once more"


def test_counter_that_stands_still_is_saved_by_time_again_and_again_under_names_of_their_own() -> (
    None
):
    driver = group(save_steps=None, save_every_s=20.0)
    saved = []
    for _ in range(3):
        (grant,) = agreed(driver.go(210))
        assert grant.save_position is not None
        assert grant.save_position <= grant.position
        driver.go(20)
        assert driver.position >= grant.save_position, "it's within what is granted"
        driver.saved_here()
        assert driver.run.saves.committed == driver.run.step == 3
        saved.append(grant.saved)
    assert saved == [None, 3, 3]


def test_stop_while_the_counter_stands_still_ends_at_a_common_position_with_a_save() -> None:
    driver = group(save_steps=None)
    driver.go(50)
    driver.tell(ev.StopAsked(ev.StopCause.SIGTERM, 25.0))
    (grant,) = agreed(driver.go(50))
    assert driver.position == driver.run.granted_position
    assert grant.saves == (3,)
    driver.saved_here()
    driver.tell(ev.Tick(), after_s=0.3)
    assert driver.run.phase is Phase.ENDED


def test_stop_saves_what_was_trained_since_the_checkpoint_of_the_same_step() -> None:
    driver = group(save_steps=None, save_every_s=20.0)
    driver.go(230)
    driver.saved_here()
    first = driver.run.saves.committed_position
    driver.go(30)
    driver.tell(ev.StopAsked(ev.StopCause.SIGTERM, 25.0))
    (grant,) = agreed(driver.go(50))
    assert grant.saved == 3
    driver.saved_here()
    assert first is not None
    assert (driver.run.saves.committed_position or 0) > first


@pytest.mark.slow
def test_save_by_steps_that_the_counter_does_not_reach_is_made_late_and_made_up_for() -> None:
    driver = group(save_steps=1000, until=10**6)
    (grant,) = agreed([*driver.go(2, counter=999), *driver.go(20)])
    assert grant.saves == (1000,)
    assert grant.save_position is not None
    while driver.position < grant.save_position:
        driver.go(1)
    assert driver.now_s > LATE_S * 0.9
    assert driver.run.saves.failed == 0
    driver.saved_here()
    assert driver.run.saves.committed == 999
    (made_up,) = agreed([*driver.go(1, counter=1001), *driver.go(20)])
    driver.saved_here()
    assert driver.run.saves.committed == 1001
    assert made_up.saved == 999


def test_counter_that_leaps_is_granted_as_far_as_a_second_of_steps_leads() -> None:
    driver = group(until=10**9)
    for number in range(1, 40):
        driver.go(1, counter=3 + 64 * number)
    ahead = driver.run.granted_end - driver.run.fastest
    assert 64 * 5 <= ahead <= 64 * 10
