"""Does what is told of a save change that save, and only where it's about the one under way?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import immutables

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide.facts import saves
from orchestrator.decide.run import Run
from orchestrator.decide.save_policy import InFlight
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

NOW_S = 64.0


def under_way(**flight: Any) -> Run:
    """A save of step 8, or of position 16, is under way; both members are to tell of it."""
    run = Driver(count=2).training("w0001", "w0002").run
    made = InFlight(1, 8, "w0001", 1.0, position=16)
    log = replace(run.saves, in_flight=replace(made, **flight), last_step=8, agreed=1)
    expected = immutables.Map({"w0001": None, "w0002": None})
    return replace(run, saves=log, expected=expected, divergences=2)


def idle(**log: Any) -> Run:
    run = under_way()
    return replace(run, saves=replace(run.saves, in_flight=None, **log))


def told(run: Run, event: Any) -> Turn:
    handlers: dict[type[Any], Any] = {
        ev.SaveWritten: saves.on_written,
        ev.SaveChecked: saves.on_checked,
        ev.SaveFailed: saves.on_save_failed,
        ev.Committed: saves.on_committed,
    }
    turn = Turn(run, NOW_S)
    handlers[type(event)](turn, event)
    return turn


def written(step: int = 8, position: int = 16, **more: Any) -> ev.SaveWritten:
    event = ev.SaveWritten("w0001", 1, step, position, "d", "p", (), {"v": 1})
    return replace(event, **more)


def test_save_is_of_the_step_at_which_it_was_made() -> None:
    """A counter may have leapt over the step that was agreed on, or stood still."""
    for step, position, last_step in ((8, 16, 8), (9, 12, 9), (6, 16, 6)):
        run = told(under_way(), written(step, position)).run
        flight = run.saves.in_flight
        assert flight is not None
        assert (flight.step, flight.position) == (step, position)
        assert run.saves.last_step == last_step, "the next one is due from there"
        assert run.written == written(step, position)
        assert run.digests == immutables.Map({"w0001": {"v": 1}})
        assert list(run.expected) == ["w0002"]
    later = under_way()
    skipped = replace(later, saves=replace(later.saves, last_step=12))
    assert told(skipped, written()).run.saves.last_step == 12, "another one was skipped"
    assert told(skipped, written(6, 16)).run.saves.last_step == 6


def test_what_is_not_about_the_save_under_way_changes_nothing() -> None:
    run = under_way()
    for event in (
        written(step=7, position=14),
        written(generation=2),
        written(worker="w0002"),
        ev.SaveChecked("w0002", 1, 7, {"v": 1}, 14),
        ev.SaveChecked("w0002", 2, 8, {"v": 1}, 16),
        ev.SaveFailed(1, 7, "late"),
        ev.SaveFailed(2, 8, "late"),
        ev.Committed(1, 7, 14),
        ev.Committed(2, 8, 16),
        ev.Committed(1, 8, 16, changes=True),
    ):
        turn = told(run, event)
        assert turn.run is run
        assert not turn.actions
    nothing = idle()
    for event in (written(), ev.SaveChecked("w0002", 1, 8, {}), ev.SaveFailed(1, 8, "late")):
        assert told(nothing, event).run is nothing


def test_checksums_of_another_rank_are_no_longer_awaited() -> None:
    for event in (
        ev.SaveChecked("w0002", 1, 8, {"v": 2}),
        ev.SaveChecked("w0002", 1, 6, {"v": 2}, 16),
    ):
        run = told(under_way(), event).run
        assert run.digests == immutables.Map({"w0002": {"v": 2}})
        assert list(run.expected) == ["w0001"]


def test_save_that_failed_says_why() -> None:
    turn = told(under_way(), ev.SaveFailed(1, 8, "503"))
    (note,) = [item.event.record() for item in turn.actions if isinstance(item, act.Note)]
    assert (note["event"], note["step"], note["reason"]) == ("save_failed", 8, "503")
    assert turn.run.saves.in_flight is None


def test_commit_ends_the_save_and_what_went_wrong_before() -> None:
    run = told(under_way(), written()).run
    run = replace(run, saves=replace(run.saves, failed=2, links=1), rolled_back_from=7)
    after = told(run, ev.Committed(1, 8, 99)).run
    log = after.saves
    assert (log.in_flight, log.committed, log.committed_position, log.failed) == (None, 8, 16, 0)
    assert (log.ground, log.links, log.changes, log.before) == (1, 2, False, None)
    assert (after.written, list(after.expected), after.divergences) == (None, [], 0)
    assert after.rolled_back_from is None
    still = told(replace(run, rolled_back_from=8), ev.Committed(1, 8)).run
    assert still.rolled_back_from == 8, "it has to be past that step"


def test_commit_of_changed_rows_remembers_the_full_one_before() -> None:
    run = under_way(over=1)
    run = replace(run, saves=replace(run.saves, committed=4, changes=False))
    log = told(run, ev.Committed(1, 8, 16, changes=True)).run.saves
    assert (log.committed, log.before, log.full, log.changes) == (8, 4, 4, True)


def test_save_of_an_earlier_generation_is_no_ground_for_the_next_one() -> None:
    run = replace(under_way(), generation=2)
    log = told(run, ev.Committed(1, 8, 16)).run.saves
    assert (log.committed, log.ground, log.links) == (8, 0, 0)


def test_commit_that_was_in_doubt_counts_once_it_is_told() -> None:
    for committed, step, counts in ((None, 0, True), (8, 8, True), (8, 9, True), (9, 8, False)):
        run = idle(committed=committed, failed=1)
        after = told(run, ev.Committed(1, step, 16)).run
        assert (after is not run) is counts
        if counts:
            log = after.saves
            assert (log.committed, log.committed_position, log.failed) == (step, 16, 0)
            assert after.divergences == 0
    other = idle(failed=1)
    assert told(other, ev.Committed(2, 8, 16)).run is other
